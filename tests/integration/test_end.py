"""The end of a room: by signals, at any moment, and by the death of the main process.

Here and after every other test, `Room.expect_exit` checks that the room has ended in time, with the
right exit code and nothing on its standard error, and that no process and no file is left.
"""

import os
import select
import signal
from pathlib import Path

import pytest

from tests.integration.clients import receive_rests
from tests.integration.rooms import (
    NEVER_SILENT,
    SMALL_LOG,
    STOP_WITHIN,
    UNLIMITED,
    Room,
    addresses,
    command,
    room,
    started,
)
from tests.integration.waiting import until

MIB = 1 << 20
SIGNALS = [signal.SIGINT, signal.SIGTERM]


@pytest.mark.sample(2)
@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("workers", [1, 3])
def test_a_signal_stops_the_room(workers: int, number: signal.Signals) -> None:
    """LEAVE-2: some members send, some are silent, and one has sent an unfinished line."""
    with room("--workers", workers, *NEVER_SILENT) as here:
        members = here.join_all(addresses(20))
        members[0].send("goodbye\n")
        for member in members[1:]:
            member.expect("<127.0.0.2>goodbye\n")
        members[1].send("unfini")
        here.wait_until_read(members[1])
        here.stop(number)
        for member in members:
            member.expect("<127.0.0.3>unfini" if member is not members[1] else "")
            member.expect_end()
            assert member.ended == "closed"


@pytest.mark.sample(1)
@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_to_the_whole_group(number: signal.Signals) -> None:
    """Ctrl-C, or a service manager, also sends the signal to the workers (gunicorn#1868)."""
    with room("--workers", 2) as here:
        client, other = here.join_all(addresses(2))
        client.send("hello\n")
        other.expect("<127.0.0.2>hello\n")
        os.killpg(here.pid, number)
        here.expect_exit()
        client.expect_end()
        other.expect_end()


def test_many_signals_in_a_row() -> None:
    """Further signals do not change how the room stops."""
    with room("--workers", 2) as here:
        members = here.join_all(addresses(2))
        while here.process.poll() is None:
            for number in SIGNALS:
                os.killpg(here.pid, number)
        here.expect_exit()
        for member in members:
            member.expect_end()


@pytest.mark.sample(1)
@pytest.mark.parametrize("workers", [1, 3])
def test_appended_messages_are_delivered_before_the_end(workers: int) -> None:
    """CAST-1, CAST-5: the room ends during a flood, and all members have received the same
    bytes."""
    with room("--workers", workers, "--quiet", *NEVER_SILENT) as here:
        flooders = here.join_all(addresses(3))
        listeners = here.join_all(addresses(7)[3:])
        flood = b"".join(b"%d\n" % number for number in range(40_000))
        for flooder in flooders:
            flooder.send_what_fits(flood)
        for listener in listeners:
            listener.receive_bytes(1)
            listener.unread[:0] = b"<"
        here.process.send_signal(signal.SIGTERM)
        receive_rests([*flooders, *listeners])
        here.expect_exit()
        heard = bytes(listeners[0].unread)
        assert all(listener.unread == heard for listener in listeners)
        lines = heard.splitlines(keepends=True)
        for flooder in flooders:
            own = b"".join(line for line in lines if line.startswith(flooder.prefix))
            said = b"".join(b"%b%d\n" % (flooder.prefix, number) for number in range(40_000))
            assert said.startswith(own.removesuffix(b"\n"))
            others = [line for line in lines if not line.startswith(flooder.prefix)]
            assert flooder.unread == b"".join(others)


def test_no_client_can_delay_the_end() -> None:
    """LOAD-1: neither a slow reader, nor a flooding member, nor a refused client delays the end."""
    with room("--workers", 2, "--max-clients", 6, "--max-lag", "12M", *UNLIMITED) as here:
        flooder, listener = here.join_all(addresses(2))
        mutes = [here.join(source, receive_buffer=4096) for source in addresses(6)[2:]]
        here.connect("127.0.9.9").expect("The room is full\n")
        text = b"0123456789abcde\n" * (2 * MIB // 16)
        for _ in range(3):
            flooder.send(text)
            listener.receive_bytes(len(text) // 16 * 27)
        flooder.send_what_fits(text * 4)
        here.stop()
        for mute in mutes:
            mute.receive_rest()


@pytest.mark.thorough  # This waits for 7 s.
def test_stopped_processes_do_not_prevent_the_end(tmp_path: Path) -> None:
    """Each stopped process is killed after its timeout. The registry is killed at once."""
    lacks = "transcript-unfinished"
    options = ("--workers", 2, "--transcript", tmp_path / "said.jsonl")
    with room(*options, logs=lacks) as here:
        members = here.join_all(addresses(2))
        here.writer()
        for child in here.processes()[1:]:
            os.kill(child.pid, signal.SIGSTOP)
        here.process.send_signal(signal.SIGTERM)
        here.expect_exit(within=8.0)  # README.md allows 8 s if a process hangs
        for member in members:
            member.expect_end()


def test_no_end_waits_for_the_registry() -> None:
    """The registry is stopped, so it does not receive the leaves of some members."""
    with room("--workers", 1) as here:
        here.join_all(addresses(2))
        os.kill(here.registry().pid, signal.SIGSTOP)
        here.stop()  # logs nothing, such as `registry-stuck`


@pytest.mark.thorough  # This waits for 4 s; tests/supervisor proves the rest.
def test_a_stopped_worker_does_not_delay_the_end() -> None:
    """The stopped worker is killed after its timeout."""
    with room("--workers", 2) as here:
        client, other = here.join_all(addresses(2))
        os.kill(here.serving(client).pid, signal.SIGSTOP)
        other.send("hello\n")
        here.process.send_signal(signal.SIGTERM)
        here.expect_exit(within=8.0)  # README.md allows 8 s if a process hangs
        client.expect_end()
        other.expect_end()


# --- while it starts -----------------------------------------------------------------------------


@pytest.mark.sample(2)
@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("processes", [1, 3, 5])
def test_a_signal_during_the_start_ends_the_room(processes: int, number: signal.Signals) -> None:
    """All processes of the room get the signal, as from a terminal, when at least `processes` of
    them run."""
    with started(command("--workers", 3)) as here:
        wait_until_there(here, processes)
        here.wait_until_listening()  # From then on, the room handles signals.
        os.killpg(here.pid, number)
        here.expect_exit()


def wait_until_there(here: Room, count: int) -> None:
    until(lambda: len(here.processes()) >= count, f"{count} processes of the room run")


@pytest.mark.sample(1)
@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_at_any_moment(number: signal.Signals) -> None:
    """The room gets the signal after more processor time in each step. The room always ends, and
    leaves no process and no file.

    In the first step, Python itself is still starting. A SIGINT then makes Python print a traceback
    or exit with 1.
    """
    for step in range(6):
        with started(command("--workers", 2), measured=False) as here:
            wait_until_used(here, step * 0.06)
            here.process.send_signal(number)
            code = here.process.wait(STOP_WITHIN)
            until(lambda: not here.processes(), "all processes of the room end")
            assert here.files() == []
            # In the first step, Python may fail to import one of its own modules.
            assert (code in (0, -number) and not here.errors) or not step, (step, code, here.errors)


UNANSWERED = """
import socket, time

def getaddrinfo(*_, **__):
    open({token!r}, "w").close()
    time.sleep(60)

socket.getaddrinfo = getaddrinfo
"""


@pytest.mark.sample(1)
@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_during_a_name_look_up_ends_the_process(
    number: signal.Signals, tmp_path: Path
) -> None:
    """The signal ends the process at once, because nothing needs a cleanup yet."""
    token = tmp_path / "asked"
    (tmp_path / "sitecustomize.py").write_text(UNANSWERED.format(token=str(token)))
    environment = {"PYTHONPATH": str(tmp_path)}
    with started(command(host="a.name"), environment=environment, measured=False) as here:
        until(token.exists, "the room looks up the name")
        here.process.send_signal(number)
        here.expect_exit(-number)


def wait_until_used(here: Room, time: float) -> None:
    """Wait until the room has used `time` seconds of processor time, or is ready and idle."""

    def come_so_far() -> bool:
        used = sum(process.used for process in here.processes())
        assert here.process.stdout is not None
        ready, _, _ = select.select([here.process.stdout], [], [], 0)
        return used >= time or bool(ready)

    until(come_so_far, "the processor time is used")


# --- killed --------------------------------------------------------------------------------------


@pytest.mark.sample(1)
@pytest.mark.parametrize("workers", [1, 3])
def test_the_main_process_is_killed(workers: int) -> None:
    """The other processes end by themselves and leave no file; all connections end."""
    with room("--workers", workers) as here:
        members = here.join_all(addresses(10))
        os.kill(here.pid, signal.SIGKILL)
        here.expect_exit(-signal.SIGKILL)
        for member in members:
            member.expect_end()


def test_the_main_process_is_killed_under_load() -> None:
    """The other processes also end if a worker waits for another worker."""
    with room("--workers", 2, *SMALL_LOG) as here:
        client, other = here.join_all(addresses(2))
        stopped = here.serving(other)
        os.kill(stopped.pid, signal.SIGSTOP)
        client.send_what_fits(b"flood\n" * 8 * MIB)
        os.kill(here.pid, signal.SIGKILL)
        os.kill(stopped.pid, signal.SIGCONT)
        here.expect_exit(-signal.SIGKILL)


def test_the_main_process_is_killed_while_it_starts() -> None:
    """The child processes notice this at every stage of their start."""
    for processes in (2, 3, 4):
        with started(command("--workers", 2)) as here:
            wait_until_there(here, processes)
            os.kill(here.pid, signal.SIGKILL)
            here.process.wait()
            until(lambda: not here.processes(), "all processes of the room end")
            assert here.files_when_killed() == []


def test_a_room_ends_when_its_terminal_is_closed() -> None:
    """A SIGHUP does not end the room while the terminal is open."""
    window, inside = os.openpty()
    with started(command("--workers", 1), setup=f"exec <'{os.ttyname(inside)}'") as here:
        here.listen()
        os.close(inside)
        first = here.workers()[0].pid
        os.kill(here.pid, signal.SIGHUP)
        until(lambda: here.workers() and here.workers()[0].pid != first, "a new worker has started")
        os.close(window)
        here.expect_exit()
