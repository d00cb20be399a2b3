"""Settings from a file that SIGHUP reads again while members send."""

import re
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.integration.clients import Client
from tests.integration.crowd import Crowd
from tests.integration.rooms import ERROR_LINE, NEVER_SILENT, Room, addresses, command, started
from tests.integration.waiting import until

CODE = command()[:3]
KIB = 1024


@pytest.fixture(name="file")
def fixture_file(tmp_path: Path) -> Path:
    return tmp_path / "room.toml"


@contextmanager
def room_by(file: Path, text: str, *options: object, logs: str = "") -> Iterator[Room]:
    """Start a room with most settings from a file, and a few from the command line."""
    file.write_text(f'listen = "127.0.0.1:0"\nworkers = 2\n{text}')
    with started([*CODE, "--config", str(file), *map(str, options)], logs=logs) as here:
        here.listen()
        yield here
        if here.process.poll() is None:
            here.stop()


def rewrite(file: Path, *changes: tuple[str, str]) -> None:
    text = file.read_text()
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    file.write_text(text)


def time_of(sender: Client, hearer: Client, size: int) -> float:
    """Return the seconds until a client has received `size` bytes that another client sends."""
    line = b"x" * 1023 + b"\n"
    began = time.monotonic()
    sender.send(line * (size // len(line)))
    hearer.expect((sender.prefix + line) * (size // len(line)))
    return time.monotonic() - began


NEEDS = r" level=warning event=needs-restart settings=max-line,log-size says=\"needs a restart: "


def test_sighup_reads_the_file_again_while_all_talk(file: Path) -> None:
    """SIGHUP reads the file again, and present members are not affected. Newcomers get the new
    welcome. Changes that need a restart are logged."""
    text = """
        welcome = "Welcome to socket practice"
        max-clients-per-address = 2
        rate = 0
        quiet = true
        flush-after = 60
        max-line = "4K"
        log-size = "8M"
    """
    with room_by(file, text, logs=NEEDS) as here:
        crowd = Crowd(here.join_all(addresses(12)))
        rewrite(
            file,
            ("to socket practice", "back"),
            ("address = 2", "address = 1"),
            ("4K", "8K"),
            ("8M", "16M"),
        )
        crowd.talk(here.replace_workers(2), "all workers are replaced")
        assert here.errors.count("\n") == 1
        newcomer = here.connect("127.0.9.9")
        newcomer.expect("Welcome back\n")
        here.connect("127.0.9.9").expect("Too many connections from your address\n")
        crowd.talk_on()
        here.stop()
        crowd.end()


def test_load_3_a_new_rate_applies_to_all_members(file: Path) -> None:
    """LOAD-3: the new rate also applies to present members."""
    size = 64 * KIB
    with room_by(file, "rate = 0\nburst = '1K'\nquiet = true", *NEVER_SILENT) as here:
        client, other = here.join_all(addresses(2))
        rewrite(file, ("rate = 0", "rate = '32K'"))
        until(here.replace_workers(2), "all workers are replaced")
        # A read may exceed the burst. Then the member is throttled for a longer time.
        assert time_of(client, other, size) >= (size - 32 * KIB - KIB) / (32 * KIB)
        rewrite(file, ("'32K'", "0"))
        until(here.replace_workers(2), "all workers are replaced")
        assert time_of(client, other, 16 * size) < 16 * size / (32 * KIB) / 2


BROKEN = r" level=error event=not-reloaded error=\".*room.toml: line 5, .*\" says="


def test_a_broken_file_changes_nothing(file: Path) -> None:
    """One log line names the error. After the file is corrected, SIGHUP reads it again."""
    with room_by(file, 'welcome = "Hello"\nquiet = true\n', logs=BROKEN) as here:
        client, other = here.connect("127.0.0.2"), here.connect("127.0.0.3")
        client.expect("Hello\n")
        other.expect("Hello\n")
        workers = {worker.pid for worker in here.workers()}
        whole = file.read_text()
        file.write_text(whole + 'welcome = "twice"\n')
        here.process.send_signal(signal.SIGHUP)
        until(lambda: here.errors, "the error is logged")
        client.send("still here?\n")
        other.expect(client.prefix + b"still here?\n")
        here.connect("127.0.0.4").expect("Hello\n")
        assert {worker.pid for worker in here.workers()} == workers
        file.write_text(whole.replace("Hello", "Hi"))
        until(here.replace_workers(2), "all workers are replaced")
        here.connect("127.0.0.5").expect("Hi\n")
        assert here.errors.count("\n") == 1
        other.send("yes\n")
        client.expect(other.prefix + b"yes\n")


def test_sighup_applies_verbose_and_workers(file: Path) -> None:
    """SIGHUP also applies another number of workers."""
    with room_by(file, "quiet = true", logs=" level=info ") as here:
        assert here.errors == ""
        rewrite(file, ("workers = 2", "workers = 3\nverbose = true"))
        until(here.replace_workers(3), "all workers are replaced")
        assert re.search(r" event=reloaded changed=verbose$", here.errors, re.MULTILINE)


def test_options_of_the_command_line_stay_after_sighup(file: Path) -> None:
    """WELCOME-4: the command line sets a welcome that is not ASCII."""
    welcome = "Xin chào! 你好 👋"
    with room_by(file, 'welcome = "Hello"', "--welcome", welcome, "--quiet") as here:
        here.connect().expect(f"{welcome}\n")
        rewrite(file, ("Hello", "Hi"))
        until(here.replace_workers(2), "all workers are replaced")
        here.connect().expect(f"{welcome}\n")


@pytest.mark.sample(1)
@pytest.mark.parametrize(
    ("text", "variables", "words"),
    [
        ("rate = 5000\nrate = 6000", {}, ["room.toml", "line 2", "rate"]),
        ("max-client = 5", {}, ["room.toml", "unknown option max-client", "max-clients"]),
        ("workers = 0", {}, ["room.toml: workers: must be a number from 1 to 64"]),
        ("", {"CHATROOM_WORKERS": "two"}, ["CHATROOM_WORKERS", "whole number"]),
        ("", {"CHATROOM_CONFIG": "nowhere"}, ["nowhere", "No such file"]),
    ],
)
def test_invalid_settings_are_named_in_one_line(
    text: str, variables: dict[str, str], words: list[str], file: Path
) -> None:
    """The line names the file or the variable, and the key. The exit code is 2."""
    file.write_text(text)
    arguments = [*CODE, "127.0.0.1", "0", *([] if variables else ["--config", str(file)])]
    with started(arguments, environment=variables, logs=ERROR_LINE) as here:
        here.expect_error(2, *words)


def test_variables_configure_a_room() -> None:
    variables = {
        "CHATROOM_LISTEN": "127.0.0.1:0",
        "CHATROOM_WORKERS": "1",
        "CHATROOM_QUIET": "yes",
        "CHATROOM_WELCOME": "Hello",
        "CHATROOM_MAX_CLIENT": "7",
    }
    with started(CODE, environment=variables, logs=" name=CHATROOM_MAX_CLIENT says=") as here:
        here.listen()
        assert len(here.workers()) == 1
        here.connect().expect("Hello\n")
        here.stop()
