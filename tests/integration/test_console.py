"""The console, which is the room's standard output: tests that read it, and tests that do not."""

import json
import re
from pathlib import Path

import pytest

from tests.integration.rooms import NEVER_SILENT, UNLIMITED, addresses, command, room, started
from tests.integration.waiting import until


@pytest.mark.sample(1)
@pytest.mark.parametrize("workers", [1, 2])
def test_the_console_shows_joins_leaves_and_messages(workers: int) -> None:
    """LEAVE-1, PREFIX-4: each join, leave and message is a line of its own, as in the tutorial."""
    with room("--workers", workers) as here:
        client = here.join("127.0.0.2")
        here.read_until("127.0.0.2 connected\n")
        other = here.join("127.0.0.3")
        client.send("hello\r\n")
        other.expect("<127.0.0.2>hello\n")
        other.send("no end")
        client.expect("<127.0.0.3>no end")
        client.close()
        assert here.read_until("127.0.0.2 disconnected\n") == (
            b"127.0.0.3 connected\n<127.0.0.2>hello\n<127.0.0.3>no end\n127.0.0.2 disconnected\n"
        )
        other.send(" and more\n")
        other.close()
        assert here.read_until("127.0.0.3 disconnected\n") == (
            b"<127.0.0.3> and more\n127.0.0.3 disconnected\n"
        )
        here.stop()
        assert here.read_rest() == b""


def test_quiet_prints_only_the_address() -> None:
    """JOIN-1: --quiet prints nothing but the address."""
    with room("--workers", 2, "--quiet") as here:
        client, other = here.join_all(addresses(2))
        client.send("hello\n")
        other.expect("<127.0.0.2>hello\n")
        client.close()
        here.stop()
        assert here.read_rest() == b""


@pytest.mark.sample(1)
@pytest.mark.parametrize("workers", [1, 4])
def test_the_address_is_printed_when_every_worker_is_ready(workers: int) -> None:
    """JOIN-1: clients can join on each worker as soon as the address is printed."""
    with room("--workers", workers, port=0) as here:
        assert len(here.workers()) == workers
        members = here.join_all(addresses(workers))
        assert len({here.serving(member).pid for member in members}) == workers
        assert here.where == f"127.0.0.1:{here.port}"


def test_verbose_logs_events_on_standard_error() -> None:
    """LEAVE-1: --verbose logs refusals and leaves, with reasons; standard output does not
    change."""
    told = [
        r" event=worker-ready worker=0 pid=\d+$",
        r" event=worker-ready worker=1 pid=\d+$",
        r" event=listening at=127.0.0.1:\d+ pid=\d+$",
        r" event=joined member=1 address=127.0.0.2 port=\d+ worker=[01]$",
        r' event=refused address=127.0.0.3 port=\d+ reason="The room is full"$',
        r" event=left member=1 address=127.0.0.2 port=\d+ reason=reset$",
    ]
    with room("--workers", 2, "--verbose", "--max-clients", 1, logs=" level=info ") as here:
        client = here.join("127.0.0.2")
        here.read_until("127.0.0.2 connected\n")
        here.connect("127.0.0.3").expect("The room is full\n")
        client.reset()
        here.read_until("127.0.0.2 disconnected\n")
        until(lambda: len(here.errors.splitlines()) == len(told), f"all events are logged: {told}")
        for event in told:
            assert re.search(event, here.errors, re.MULTILINE)


def test_the_log_may_be_json() -> None:
    with room("--workers", 1, "--verbose", "--log-format", "json", logs='^{"time": ') as here:
        client = here.join("127.0.0.2")
        here.read_until("127.0.0.2 connected\n")
        client.close()
        here.read_until("127.0.0.2 disconnected\n")
        until(lambda: here.errors.count("\n") == 4, "all lines are logged")
        found = [json.loads(line) for line in here.errors.splitlines()]
        assert [event["event"] for event in found] == [
            "worker-ready",
            "listening",
            "joined",
            "left",
        ]
        assert {event["level"] for event in found} == {"info"}
        assert (found[3]["member"], found[3]["address"]) == (1, "127.0.0.2")


def test_an_unread_standard_error_blocks_nothing(full_pipe: Path) -> None:
    """LOAD-1: a full pipe as standard error blocks neither joins nor the room's end."""
    setup = f"exec 2<>'{full_pipe}'"
    with room("--workers", 2, "--verbose", "--max-clients", 2, setup=setup) as here:
        client, other = here.join_all(addresses(2))
        for _ in range(20):
            here.connect("127.0.0.9").expect("The room is full\n")
        client.send("hello\n")
        other.expect("<127.0.0.2>hello\n")
        until(here.is_idle, "the room is idle")
        here.stop()


def test_messages_left_out_of_a_slow_console_are_counted() -> None:
    """LOAD-1: the room continues. Each message is printed once, or counted as left out."""
    with room("--workers", 2, *NEVER_SILENT, *UNLIMITED) as here:
        client, other = here.join_all(addresses(2))
        total = 0
        for _ in range(6):
            numbers = range(total, total + 50_000)
            client.send("".join(f"{number}\n" for number in numbers))
            other.expect("".join(f"<127.0.0.2>{number}\n" for number in numbers))
            total += len(numbers)
        client.close()
        printed = here.read_until("127.0.0.2 disconnected\n").decode()
        left_out = re.findall(r"^\((\d+) left out\)$", printed, re.MULTILINE)
        assert left_out
        found = re.findall(r"^<127.0.0.2>(\d+)$", printed, re.MULTILINE)
        shown = [int(number) for number in found]
        assert shown == sorted(set(shown))
        assert len(shown) + sum(map(int, left_out)) == total


def test_an_unread_standard_output_blocks_nothing() -> None:
    """LOAD-1: a full pipe as standard output blocks neither the room nor its end."""
    with room("--workers", 2, *NEVER_SILENT, *UNLIMITED) as here:
        client, other = here.join_all(addresses(2))
        text, heard = "0123456789abcde\n" * 1000, "<127.0.0.2>0123456789abcde\n" * 1000
        while not here.output_is_full():
            before = here.unread_output()
            client.send(text)
            other.expect(heard)
            until(lambda: here.unread_output() > before, "the console shows this")  # noqa: B023
        for _ in range(100):
            client.send(text)
            other.expect(heard)
        third = here.join("127.0.0.9")
        third.send("still here\n")
        other.expect("<127.0.0.9>still here\n")
        until(here.is_idle, "the room is idle")
        here.stop()


def test_a_closed_standard_output_does_not_stop_the_room() -> None:
    """LOAD-1: nobody reads the pipe any more, as in `python -m chatroom … | head -1`."""
    with room("--workers", 2) as here:
        assert here.process.stdout is not None
        here.process.stdout.close()
        client, other = here.join_all(addresses(2))
        for number in range(20):
            client.send(f"{number}\n")
            other.expect(f"<127.0.0.2>{number}\n")
            here.join("127.0.0.9").close()
        until(here.is_idle, "the room is idle")
        here.stop()


@pytest.mark.sample(2)
@pytest.mark.parametrize(
    "setup",
    ["exec >/dev/full", "exec >&-", "exec <&-", "exec <&- >&-", "exec <&- >&- 2>&-"],
)
def test_missing_standard_streams_do_not_stop_the_room(setup: str) -> None:
    """JOIN-1: the room works with a full disk, and without standard streams."""
    with started(command("--workers", 2), setup=setup) as here:
        here.wait_until_listening()
        client, other = here.join_all(addresses(2))
        for number in range(20):
            client.send(f"{number}\n")
            other.expect(f"<127.0.0.2>{number}\n")
        here.join("127.0.0.9").close()
        other.send("fine\n")
        client.expect("<127.0.0.3>fine\n")
        here.stop()
