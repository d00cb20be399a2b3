"""Tests of the server's command line: arguments become settings, and errors become exit codes."""

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import chatroom
from chatroom.build import BUILD
from chatroom.cli import server
from chatroom.config.options import OPTIONS, default_workers
from chatroom.config.settings import Settings
from chatroom.config.sizes import KIB, MIB
from chatroom.errors import ChatroomError, ConfigError, LimitError, ListenError, WorkerError
from chatroom.supervisor import supervisor
from chatroom.system.endpoint import Endpoint
from chatroom.system.networks import parse_network

HERE = ["127.0.0.1", "8080"]


class Room:
    """A fake of supervisor.run, which records its settings and may raise an error."""

    def __init__(self) -> None:
        self.settings: list[Settings] = []
        self.fails: ChatroomError | None = None
        self.runs: Callable[[Callable[[], Settings]], None] = lambda reload: None
        """Function that each run calls. Its argument reads the settings again."""

    def __call__(
        self, settings: Settings, sockets: object, manager: object, reload: Callable[[], Settings]
    ) -> None:
        self.settings.append(settings)
        if self.fails is not None:
            raise self.fails
        self.runs(reload)


@pytest.fixture(name="room")
def fixture_room(monkeypatch: pytest.MonkeyPatch) -> Iterator[Room]:
    room = Room()
    monkeypatch.setattr(supervisor, "run", room)
    root = logging.getLogger()
    level = root.level
    yield room
    root.setLevel(level)


def exit_code(*arguments: str) -> Any:
    with pytest.raises(SystemExit) as ended:
        server.main(arguments)
    return ended.value.code


def settings_of(room: Room, *arguments: str) -> Settings:
    assert exit_code(*arguments) == 0
    (settings,) = room.settings
    return settings


# --- arguments -----------------------------------------------------------------------------------


def test_host_and_port_are_enough(room: Room) -> None:
    assert settings_of(room, *HERE) == Settings(
        listen=(Endpoint("127.0.0.1", 8080),), workers=default_workers()
    )


@pytest.mark.parametrize(
    ("arguments", "name", "value"),
    [
        (["--workers", "61"], "workers", 61),
        (["--welcome", "Hello, wörld"], "welcome", "Hello, wörld"),
        (["--welcome="], "welcome", ""),
        (["--prefix", "[{id}] "], "prefix", "[{id}] "),
        (
            ["--proxy-protocol", "--proxy-from", "10.0.0.0/8", "--proxy-from", "::1"],
            "proxy_from",
            (parse_network("10.0.0.0/8"), parse_network("::1")),
        ),
        (["--run-dir", "/run/room"], "run_dir", Path("/run/room")),
        (["--keep-bans"], "keep_bans", True),
        (["--max-clients", "5"], "max_clients", 5),
        (["--max-clients-per-address", "2"], "max_clients_per_address", 2),
        (["--max-line", "2K"], "max_line", 2 * KIB),
        (["--flush-after", "0.5"], "flush_after", 0.5),
        (["--max-lag", "1M"], "max_lag", MIB),
        (["--log-size", "32M"], "log_size", 32 * MIB),
        (["--rate", "1M"], "rate", MIB),
        (["--rate", "0"], "rate", 0),
        (["--burst", "2K"], "burst", 2 * KIB),
        (["--peer-timeout", "60"], "peer_timeout", 60),
        (["--watchdog", "2.5"], "watchdog", 2.5),
        (["--transcript", "said.jsonl"], "transcript", Path("said.jsonl")),
        (["--transcript-size", "1G"], "transcript_size", 1024 * MIB),
        (["--web", "[::1]:0"], "web", Endpoint("::1", 0)),
        (["--web-processes", "64"], "web_processes", 64),
        (["--web-cert", "c.pem", "--web-key", "k.pem"], "web_cert", Path("c.pem")),
        (["--web-cert", "c.pem", "--web-key", "k.pem"], "web_key", Path("k.pem")),
        (["--web-cert", "c", "--web-key", "k", "--tls", "h:1"], "tls", Endpoint("h", 1)),
        (["--web-origin", "https://a.example"], "web_origin", ("https://a.example",)),
        (["--web-proxy-from", "::1"], "web_proxy_from", (parse_network("::1"),)),
        (["--web-keep", "1.5"], "web_keep", 1.5),
        (["--quiet"], "quiet", True),
        (["--verbose"], "verbose", True),
        (["--log-format", "json"], "log_format", "json"),
    ],
)
def test_every_setting_has_an_option(
    arguments: list[str], name: str, value: object, room: Room
) -> None:
    assert getattr(settings_of(room, *HERE, *arguments), name) == value
    assert getattr(Settings(), name) != value


@pytest.mark.parametrize(
    ("host", "found"),
    [
        ("[::1]", "::1"),
        ("[::1:8080]", "::1:8080"),
        ("::1", "::1"),
        ("2001:db8::8:80", "2001:db8::8:80"),
        ("fe80::1%eth0", "fe80::1%eth0"),
        ("localhost", "localhost"),
        ("", ""),
    ],
)
def test_an_ipv6_address_may_be_in_brackets(host: str, found: str, room: Room) -> None:
    assert settings_of(room, host, "8080").listen == (Endpoint(found, 8080),)


def test_a_negative_number_and_text_with_a_blank_are_not_options(room: Room) -> None:
    assert settings_of(room, *HERE, "--welcome", "-- hello").welcome == "-- hello"


def test_options_may_come_first(room: Room) -> None:
    settings = settings_of(room, "--quiet", "--max-line", "100", "::1", "0")
    assert (settings.listen, settings.max_line) == ((Endpoint("::1"),), 100)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ([], "no address to listen on: give HOST PORT, or --listen ADDRESS"),
        (["127.0.0.1"], "PORT is missing: give HOST PORT, such as 127.0.0.1 4000, or --listen"),
        (["4001"], "HOST is missing: give HOST PORT, such as 127.0.0.1 4001, or --listen"),
        (["127.0.0.1:4001"], "put a space before the port, as in 127.0.0.1 4001 ("),
        (["127.0.0.1:4001", "4001"], "HOST: must be a name or an address, not '127.0.0.1:4001': "),
        (["[::1]:4001", "4001"], "put a space before the port, as in ::1 4001 ("),
        (["::1:4001", "4001"], "as in ::1 4001, or write [::1:4001] if it is an address ("),
        (["unix:/x"], "a Unix socket needs --listen: --listen unix:/x"),
        (["unix:/x", "4001"], "a Unix socket needs --listen: --listen unix:/x"),
        (["--listen", "5000"], "argument --listen: must be HOST:PORT or unix:PATH, not '5000'"),
        (["--listen", "unix:"], "--listen"),
        ([*HERE, "--metrics", "unix:/x"], "argument --metrics: must be HOST:PORT"),
        ([*HERE, "--web", "unix:/x"], "argument --web: must be HOST:PORT"),
        ([*HERE, "--web-processes", "65"], "--web-processes: must be a number from 1 to 64"),
        ([*HERE, "--web-cert", "x"], "--web-cert: must be given together with --web-key"),
        ([*HERE, "--web-key", "x"], "--web-key: must be given together with --web-cert"),
        ([*HERE, "--tls", "h:1"], "--tls: must be given together with --web-cert and --web-key"),
        ([*HERE, "--web-origin", "*"], "--web-origin: must be an origin such as https://"),
        ([*HERE, "--web-origin", "https://a/"], "--web-origin: must be an origin such as"),
        ([*HERE, "--proxy-from", "all"], "argument --proxy-from: must be an address, a network"),
        (
            [*HERE, "--proxy-from", "10.0.0.0/8"],
            "--proxy-from: must be given together with --proxy-protocol: these proxies must send",
        ),
        ([*HERE, "--proxy-protocol"], "--proxy-protocol: must be given together"),
        ([*HERE, "--prefix", "{name}"], "argument --prefix: must be text without control"),
        ([*HERE, "--prefix", "x" * 200], "argument --prefix: must be at most 128 bytes long"),
        (["127.0.0.1", "http"], "PORT"),
        (["127.0.0.1", "-1"], "PORT"),
        (
            ["127.0.0.1", "65536"],
            "argument PORT: must be a port number from 0 to 65535, not '65536'",
        ),
        (["127.0.0.1", "9" * 5000], "PORT"),
        (["127.0.0.1", "٨٠"], "PORT"),
        (["127.0.0.1", "8080", "9090"], "9090"),
        ([*HERE, "--frobnicate"], "unknown option --frobnicate ("),
        ([*HERE, "--work", "1"], "unknown option --work; did you mean --workers? ("),
        (["--welcom", "x", *HERE], "unknown option --welcom; did you mean --welcome? ("),
        (["--welcom=x", *HERE], "unknown option --welcom; did you mean --welcome? ("),
        (["-quiet", *HERE], "unknown option -quiet; did you mean --quiet? ("),
        (["--bu\nrst", "1", *HERE], "unknown option --bu\\nrst; did you mean --burst? ("),
        ([*HERE, "--workers"], "--workers"),
        ([*HERE, "--workers", "two"], "--workers"),
        ([*HERE, "--workers", "0"], "--workers"),
        ([*HERE, "--workers", "-1"], "--workers"),
        ([*HERE, "--workers", "1.5"], "--workers"),
        ([*HERE, "--workers", "9" * 5000], "--workers"),
        ([*HERE, "--welcome", "a\nb"], "--welcome"),
        ([*HERE, "--welcome", "\udcff"], "--welcome"),
        ([*HERE, "--welcome", "x" * 2000], "--welcome"),
        ([*HERE, "--max-clients", "0"], "--max-clients"),
        ([*HERE, "--max-clients-per-address", "-1"], "--max-clients-per-address"),
        ([*HERE, "--max-line", "10T"], "--max-line"),
        ([*HERE, "--max-line", "a\nb"], "--max-line"),
        ([*HERE, "--max-line", "63"], "--max-line"),
        ([*HERE, "--max-line", "2M"], "--max-line"),
        ([*HERE, "--max-line", "9" * 5000], "--max-line"),
        ([*HERE, "--flush-after", "soon"], "--flush-after"),
        ([*HERE, "--flush-after", "0"], "--flush-after"),
        ([*HERE, "--flush-after", "nan"], "--flush-after"),
        ([*HERE, "--flush-after", "inf"], "--flush-after"),
        ([*HERE, "--max-lag", "1K"], "--max-lag"),
        ([*HERE, "--max-lag", ""], "--max-lag"),
        ([*HERE, "--log-size", "4M"], "--log-size"),
        ([*HERE, "--log-size", "-4M"], "--log-size"),
        ([*HERE, "--rate", "63"], "--rate"),
        ([*HERE, "--rate", "fast"], "--rate"),
        ([*HERE, "--burst", "1023"], "--burst"),
        ([*HERE, "--peer-timeout", "1"], "--peer-timeout"),
        ([*HERE, "--peer-timeout", "2.5"], "--peer-timeout"),
        ([*HERE, "--watchdog", "0.1"], "--watchdog"),
        ([*HERE, "--watchdog", "nan"], "--watchdog"),
        ([*HERE, "--quiet=yes"], "--quiet"),
        ([*HERE, "--transcript", "/tmp"], "--transcript: must be a file, not a folder: /tmp/room"),
        (
            [*HERE, "--transcript-size", "3M"],
            "--transcript-size: must be 0, or a size from 4M",
        ),
        ([*HERE, "--transcript", ""], "argument --transcript: must be a path, not ''"),
        ([*HERE, "--run-dir", ""], "argument --run-dir: must be a path, not ''"),
        ([*HERE, "--config", ""], "argument --config: must be a path, not ''"),
        ([*HERE, "--rate", "9" * 5000], "argument --rate: must be a size such as 65536, 64K or 4M"),
        ([*HERE, "--log-format", "xml"], "argument --log-format: must be text or json, not 'xml'"),
        ([*HERE, "a\nb"], "a"),
    ],
    ids=lambda value: ascii(" ".join(value))[:60] if isinstance(value, list) else "",
)
def test_an_invalid_argument_is_named_in_one_line(
    arguments: list[str], named: str, room: Room, capsys: pytest.CaptureFixture[str]
) -> None:
    assert exit_code(*arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("python -m chatroom: ")
    assert err.endswith("\n")
    assert len(err.splitlines()) == 1
    assert named in err.partition(": ")[2]
    assert not room.settings


# --- help and version ----------------------------------------------------------------------------


def test_the_version_option_prints_the_version(
    room: Room, capsys: pytest.CaptureFixture[str]
) -> None:
    assert exit_code("--version") == 0
    assert capsys.readouterr() == (f"chatroom {chatroom.__version__} ({BUILD})\n", "")
    assert not room.settings


def test_help_lists_every_option_and_its_default(
    room: Room, capsys: pytest.CaptureFixture[str]
) -> None:
    assert exit_code("--help") == 0
    told = " ".join(capsys.readouterr().out.split())
    for name in ("HOST", "PORT", "--config FILE", "--version"):
        assert name in told
    for option in OPTIONS:
        assert f"--{option.key} {option.metavar}".rstrip() in told
        assert not option.shown_default or f"(default: {option.shown_default}" in told


# --- other sources -------------------------------------------------------------------------------


@pytest.fixture(name="file")
def fixture_file(tmp_path: Path) -> Path:
    file = tmp_path / "room.toml"
    file.write_text('listen = ["127.0.0.1:1", "unix:/x"]\nmax-clients = 50\nrate = "1M"\n')
    return file


def test_a_file_supplies_options_missing_on_the_command_line(room: Room, file: Path) -> None:
    settings = settings_of(room, "--config", str(file), "--rate", "2M", "--verbose")
    assert settings.listen == (Endpoint("127.0.0.1", 1), Endpoint(path="/x"))
    assert (settings.max_clients, settings.rate, settings.verbose) == (50, 2 * MIB, True)
    assert settings.burst == Settings().burst


@pytest.mark.parametrize(
    ("arguments", "listen"),
    [
        (HERE, (Endpoint("127.0.0.1", 8080),)),
        (["--listen", "unix:/y"], (Endpoint(path="/y"),)),
        ([*HERE, "--listen", "unix:/y"], (Endpoint("127.0.0.1", 8080), Endpoint(path="/y"))),
    ],
)
def test_addresses_on_the_command_line_replace_those_of_the_file(
    arguments: list[str], listen: tuple[Endpoint, ...], room: Room, file: Path
) -> None:
    assert settings_of(room, "--config", str(file), *arguments).listen == listen


def test_variables_rank_between_the_command_line_and_the_file(
    room: Room, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, text in (
        ("CONFIG", str(file)),
        ("LISTEN", "[::1]:2"),
        ("MAX_CLIENTS", "60"),
        ("RATE", "3M"),
    ):
        monkeypatch.setenv(f"CHATROOM_{name}", text)
    settings = settings_of(room, "--max-clients", "70")
    assert settings.listen == (Endpoint("::1", 2),)
    assert (settings.max_clients, settings.rate) == (70, 3 * MIB)


def test_the_config_option_overrides_the_config_variable(
    room: Room, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CHATROOM_CONFIG", "/nowhere")
    assert settings_of(room, "--config", str(file)).max_clients == 50


def test_an_error_in_a_file_is_one_line_that_names_the_file(
    room: Room, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file.write_text("max-clients = 0")
    assert exit_code("--config", str(file), *HERE) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"python -m chatroom: {file}: max-clients: must be a number from 1 (")
    assert err.count("\n") == 1
    assert not room.settings


def test_the_settings_can_be_read_again(room: Room, file: Path) -> None:
    found: list[Settings] = []

    def runs(reload: Callable[[], Settings]) -> None:
        assert logging.getLogger().level == logging.WARNING
        file.write_text("max-clients = 80\nwelcome = 'Hi'\nverbose = true")
        found.append(reload())
        assert logging.getLogger().level == logging.INFO
        file.write_text("max-clients = 80\nverbose = 3")
        with pytest.raises(ConfigError, match="verbose: must be true or false, not 3"):
            reload()
        assert logging.getLogger().level == logging.INFO

    room.runs = runs
    before = settings_of(room, "--config", str(file), "--welcome", "Hello", *HERE)
    assert (before.welcome, before.max_clients, before.rate) == ("Hello", 50, MIB)
    (after,) = found
    assert (after.welcome, after.max_clients, after.rate) == ("Hello", 80, Settings().rate)
    assert after.listen == before.listen


def test_a_misspelt_variable_is_logged_with_a_suggestion(
    room: Room, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("CHATROOM_MAX_CLIENT", "3")
    monkeypatch.setenv("CHATROOM_SERVICE_HOST", "10.0.0.1")
    settings_of(room, *HERE)
    assert caplog.messages == [
        "event=unknown-variable name=CHATROOM_MAX_CLIENT"
        ' says="unknown variable; did you mean CHATROOM_MAX_CLIENTS?"'
    ]


# --- errors --------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [ListenError, LimitError, WorkerError])
def test_a_room_that_cannot_run_prints_the_reason_in_one_line(
    kind: type[ChatroomError], room: Room, capfd: pytest.CaptureFixture[str]
) -> None:
    room.fails = kind("the thing at fault")
    assert exit_code(*HERE) == 1
    assert capfd.readouterr() == ("", "python -m chatroom: the thing at fault\n")


def test_a_start_error_is_logged_as_json_if_the_log_is_json(
    room: Room, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    room.fails = LimitError("the thing at fault")
    assert exit_code(*HERE, "--log-format", "json") == 1
    assert caplog.messages == ['event=ended exit=1 error="the thing at fault"']
    assert capfd.readouterr() == ("", "")


def test_an_unexpected_exception_is_not_caught(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(supervisor, "run", fail)
    with pytest.raises(ZeroDivisionError):
        server.main(HERE)


@pytest.mark.parametrize(
    ("arguments", "level"), [([], logging.WARNING), (["--verbose"], logging.INFO)]
)
def test_verbose_sets_the_log_level_to_info(
    arguments: list[str], level: int, room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    configured: list[dict[str, Any]] = []
    monkeypatch.setattr(logging, "basicConfig", lambda **options: configured.append(options))
    assert exit_code(*HERE, *arguments) == 0
    assert len(configured) == 1
    assert logging.getLogger().level == level
