"""Tests of settings from files and variables, of their precedence, and of errors in them."""

import os
import re
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis.strategies import binary

from chatroom.config import sources
from chatroom.config.options import OPTIONS
from chatroom.config.settings import Settings
from chatroom.config.sizes import KIB
from chatroom.config.sources import Layer, SourcedValue
from chatroom.errors import ConfigError
from chatroom.system.endpoint import Endpoint
from chatroom.system.networks import parse_network

ROOT = Path(__file__).parents[2]


@pytest.fixture(name="file")
def fixture_file(tmp_path: Path) -> Path:
    return tmp_path / "room.toml"


def settings_in(file: Path, text: str) -> dict[str, Any]:
    """Write this text to the file; return the settings that the file then contains."""
    file.write_text(text)
    layer = sources.from_file(file)
    assert {name: sourced.where for name, sourced in layer.items()} == {
        name: f"{file}: {name.replace('_', '-')}" for name in layer
    }
    return {name: sourced.value for name, sourced in layer.items()}


def error(file: Path, text: str | bytes) -> str:
    """Write this text to the file; return the error when it is read, without the file's name."""
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ConfigError) as raised:
        sources.read({}, {}, file)
    assert raised.value.exit_code == 2
    name, _, what = str(raised.value).partition(": ")
    assert name == str(file)
    return what


# --- all together --------------------------------------------------------------------------------


def test_settings_without_sources_are_the_defaults() -> None:
    assert sources.read({}, {}, None) == Settings()


def test_arguments_override_variables_which_override_files(file: Path) -> None:
    file.write_text('rate = 1000\nburst = "3K"\nmax-line = "1K"')
    environment = {"CHATROOM_RATE": "2000", "CHATROOM_BURST": "4K"}
    layer: Layer = {"rate": SourcedValue(3000, "")}
    expected = Settings(rate=3000, burst=4 * KIB, max_line=KIB)
    assert sources.read(layer, environment, file) == expected


@pytest.mark.parametrize(
    ("given", "environment", "text", "wrong"),
    [
        (
            {"rate": SourcedValue(1, "argument --rate")},
            {"CHATROOM_RATE": "2"},
            "rate=3",
            "argument --rate",
        ),
        ({}, {"CHATROOM_RATE": "2"}, "rate = 3", "CHATROOM_RATE"),
        ({"burst": SourcedValue(9999, "")}, {}, "rate = 3", "room.toml: rate"),
        ({}, {}, "max-lag = '1G'", "--log-size"),
    ],
)
def test_a_value_out_of_range_is_an_error_that_names_its_source(
    given: Layer, environment: dict[str, str], text: str, wrong: str, file: Path
) -> None:
    file.write_text(text)
    with pytest.raises(ConfigError, match=rf"{wrong}: must be (0, or a size|at least \d+)"):
        sources.read(given, environment, file)


# --- a file --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "name", "value"),
    [
        ("max-clients = 5", "max_clients", 5),
        ("max-clients = '5'", "max_clients", 5),
        ("max-clients = 0x10", "max_clients", 16),
        ("max-line = 1024", "max_line", KIB),
        ("max-line = '1K'", "max_line", KIB),
        ("flush-after = 0.5", "flush_after", 0.5),
        ("flush-after = 2", "flush_after", 2.0),
        ("watchdog = '2.5'", "watchdog", 2.5),
        ("quiet = true", "quiet", True),
        ("quiet = false", "quiet", False),
        ("welcome = ''", "welcome", ""),
        ("welcome = 'Grüß Gott'", "welcome", "Grüß Gott"),
        ("prefix = '[{id}] '", "prefix", "[{id}] "),
        ("run-dir = '/run/x'", "run_dir", Path("/run/x")),
        ("log-format = 'json'", "log_format", "json"),
        ("listen = 'unix:/x,y z'", "listen", (Endpoint(path="/x,y z"),)),
        ("listen = ['[::1]:2', 'h:3']", "listen", (Endpoint("::1", 2), Endpoint("h", 3))),
        ("listen = []", "listen", ()),
        ("metrics = '[::1]:9464'", "metrics", Endpoint("::1", 9464)),
        ("proxy-protocol = true", "proxy_protocol", True),
        ("proxy-from = '10.0.0.0/8'", "proxy_from", (parse_network("10.0.0.0/8"),)),
        (
            "proxy-from = ['::1', '10.1.2.3']",
            "proxy_from",
            (parse_network("::1"), parse_network("10.1.2.3")),
        ),
    ],
)
def test_a_file_has_the_options_names_and_their_values(
    text: str, name: str, value: object, file: Path
) -> None:
    found = settings_in(file, f"# a comment\n{text}")
    assert found == {name: value}
    assert type(found[name]) is type(value)


def test_a_file_may_be_empty(file: Path) -> None:
    assert settings_in(file, "") == {}


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("max-client = 5", "unknown option max-client; did you mean max-clients?"),
        ("max_clients = 5", "unknown option max_clients; did you mean max-clients?"),
        ("color = 5", "unknown option color; --help lists the options"),
        ("config = 'x'", "unknown option config"),
        ("host = 'x'", "unknown option host"),
        ("'two\\nlines' = 5", "unknown option two\\nlines"),
        ('"two\\nlines" = 5', "unknown option 'two\\nlines'"),
        ("[room]\nrate = 5", "unknown option room"),
        ("rate = 5\nburst = 1\n\nrate = 6\n", "line 4, 'rate = 6': Cannot overwrite a value"),
        ("rate = 5\nrate = 6", "line 2, 'rate = 6': Cannot overwrite a value"),
        ("rate = 5\nburst is 1", "line 2, 'burst is 1': Expected '=' after a key in a key/value"),
        ("rate = 5\r\n" + "x" * 99 + "\n", f"line 2, '{'x' * 57}...': Expected '='"),
        ("rate = [", "Invalid value (at end of document)"),
        ("rate = " + "9" * 5000, "Exceeds the limit"),
        ("rate = " + "[" * 99999, ""),
        ("rate = 0x" + "9" * 5000, "rate: must be a size such as 65536, 64K or 4M, not 'so long"),
        (b"welcome = 'x'\n\nprefix = '\xff'\n\n", "line 3 must be UTF-8 text"),
        ("max-clients = 0", "max-clients: must be a number from 1"),
        ("max-clients = 2.5", "max-clients: must be a whole number, not '2.5'"),
        ("max-clients = 'many'", "max-clients: must be a whole number, not 'many'"),
        ("max-clients = true", 'max-clients: must be a number, or text in "quotes", not true'),
        ("max-clients = [1]", 'max-clients: must be a number, or text in "quotes", not a list'),
        ("max-clients.x = 1", 'max-clients: must be a number, or text in "quotes", not a table'),
        ("watchdog = 10:00:00", 'watchdog: must be a number, or text in "quotes", not a time'),
        ("watchdog = 'soon'", "watchdog: must be seconds, such as 0.5, not 'soon'"),
        ("watchdog = nan", "watchdog: must be 0, or seconds from 0.5 to 3600"),
        ("rate = -1", "rate: must be a size such as 65536, 64K or 4M, not '-1'"),
        ("rate = 1e3", "rate: must be a size such as 65536, 64K or 4M, not '1000.0'"),
        ("quiet = 1", "quiet: must be true or false, not 1"),
        ("quiet = 'yes'", "quiet: must be true or false, not 'yes'"),
        ("welcome = 5", 'welcome: must be text, in "quotes", not 5'),
        ("welcome = 1.5", 'welcome: must be text, in "quotes", not 1.5'),
        ('welcome = "a\\u001b"', "welcome: must be text without control characters"),
        ("run-dir = 5", 'run-dir: must be text, in "quotes", not 5'),
        ("log-format = 'xml'", "log-format: must be text or json, not 'xml'"),
        ("proxy-from = ['10.0.0.0/33']", "proxy-from: must be an address, a network such as"),
        ("metrics = 'here'", "metrics: must be"),
        ("listen = 5000", 'listen: must be text, in "quotes", not 5000'),
        ("listen = ['h:1', 5000]", 'listen: must be text, in "quotes", not 5000'),
        ("listen = ['h:1', '5000']", "listen: must be HOST:PORT or unix:PATH, not '5000'"),
    ],
    ids=lambda value: ascii(value)[:40],
)
def test_an_error_in_a_file_names_the_option(text: str | bytes, wrong: str, file: Path) -> None:
    found = error(file, text)
    assert found.startswith(wrong)
    assert len(found.splitlines()) == 1


@given(binary())
@example(b"listen = [[[1979-05-27]]]")
@example(b'"\\u0000" = 1')
def test_any_file_is_read_or_refused_with_an_error(data: bytes) -> None:
    refused = ""
    with tempfile.NamedTemporaryFile() as file:
        file.write(data)
        file.flush()
        try:
            sources.read({}, {}, Path(file.name))
        except ConfigError as error:
            refused = str(error)
    assert not refused or refused.startswith(f"{file.name}: ") or "--log-size" in refused


def test_a_path_that_is_not_a_regular_file_is_refused_at_once(tmp_path: Path) -> None:
    """Reading a pipe could block, and a pipe could not be read again."""
    os.mkfifo(tmp_path / "pipe")
    for path, why in (
        (tmp_path, "not a regular file"),
        (tmp_path / "pipe", "not a regular file"),
        (tmp_path / "missing", "No such file or directory"),
    ):
        with pytest.raises(ConfigError, match=f"^{re.escape(str(path))} can't be read: {why}$"):
            sources.from_file(path)
    assert not [fd for fd in os.listdir("/proc/self/fd") if leads_to(fd, tmp_path)]


def leads_to(fd: str, path: Path) -> bool:
    try:
        return os.readlink(f"/proc/self/fd/{fd}").startswith(str(path))
    except FileNotFoundError:
        return False


# --- the environment -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("max_clients", "5", 5),
        ("rate", "64K", 64 * KIB),
        ("watchdog", "2.5", 2.5),
        ("welcome", "Hello, all", "Hello, all"),
        ("run_dir", "/run/x", Path("/run/x")),
        ("quiet", "1", True),
        ("quiet", "True", True),
        ("keep_bans", "on", True),
        ("verbose", "yes", True),
        ("quiet", "0", False),
        ("quiet", "FALSE", False),
        ("quiet", "no", False),
        ("quiet", "off", False),
        ("listen", "h:1", (Endpoint("h", 1),)),
        (
            "listen",
            "h:1,unix:/x , [::1]:2",
            (Endpoint("h", 1), Endpoint(path="/x"), Endpoint("::1", 2)),
        ),
        ("proxy_from", "::1, 10.0.0.0/8", (parse_network("::1"), parse_network("10.0.0.0/8"))),
    ],
)
def test_a_variable_has_an_option_s_name_and_its_value(name: str, text: str, value: object) -> None:
    where = f"CHATROOM_{name.upper()}"
    assert sources.from_environment({where: text}) == {name: SourcedValue(value, where)}


def test_an_empty_variable_is_ignored() -> None:
    environment = {option.variable: "" for option in OPTIONS}
    assert sources.from_environment(environment) == {}


@pytest.mark.parametrize(
    ("name", "text", "wrong"),
    [
        ("CHATROOM_WORKERS", "two", "must be a whole number, not 'two'"),
        ("CHATROOM_RATE", "9T", "must be a size such as 65536, 64K or 4M, not '9T'"),
        ("CHATROOM_QUIET", "si", "must be true or false, not 'si'"),
        ("CHATROOM_LISTEN", "h:1,5000", "must be HOST:PORT or unix:PATH, not '5000'"),
        ("CHATROOM_LOG_FORMAT", "xml", "must be text or json, not 'xml'"),
    ],
)
def test_an_error_in_a_variable_names_the_variable(name: str, text: str, wrong: str) -> None:
    with pytest.raises(ConfigError) as raised:
        sources.from_environment({name: text})
    assert str(raised.value) == f"{name}: {wrong}"


def test_only_misspelt_variables_of_the_room_are_reported() -> None:
    """Kubernetes sets similar variables for each service. The harness has variables of its own."""
    others = (
        "CHATROOM_PORT",
        "CHATROOM_SERVICE_HOST",
        "CHATROOM_PORT_4000_TCP_ADDR",
        "CHATROOM_HARNESS_TARGET",
        "CHATROOM_HARNESS_RUN",
        "CHATROOM_",
        "MAX_CLIENT",
    )
    meant = {
        "CHATROOM_MAX_CLIENT": "CHATROOM_MAX_CLIENTS",
        "CHATROOM_LOGSIZE": "CHATROOM_LOG_SIZE",
        "CHATROOM_CONF": "CHATROOM_CONFIG",
    }
    ours = [sources.CONFIG, *(option.variable for option in OPTIONS)]
    environment = dict.fromkeys((*others, *meant, *ours), "1")
    assert sources.misspelled_variables(environment) == meant
