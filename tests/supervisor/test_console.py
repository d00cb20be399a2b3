"""Tests of the console, which prints messages and the main process's own lines (notices)."""

import os
import select
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any

import pytest
from hypothesis import given
from hypothesis.strategies import integers, just, lists, one_of, sampled_from, tuples

from chatroom.errors import LimitError
from chatroom.log.ring import Geometry, Log
from chatroom.supervisor import console as module
from chatroom.supervisor.console import MAX_LINES, Console, descriptor
from chatroom.system.doorbell import Doorbell
from tests.integration.waiting import PATIENCE
from tests.log.entries import Run, append_message, batch_of, new_log

ROOMY = Geometry(text=1 << 16, entries=1 << 10, kept=1 << 15, kept_entries=1 << 9)


class ManualConsole(Console):
    """A console without a thread. The console prints when the test calls `print`."""

    def __init__(self, log: Log | None, doorbell: Doorbell) -> None:
        with pytest.MonkeyPatch.context() as monkeypatch:
            monkeypatch.setattr(threading.Thread, "start", lambda thread: None)
            super().__init__(log, doorbell, -1)
        self.printed = b""

    def print(self, most: int = 1 << 30) -> bytes:
        """Print up to `most` chunks, or until nothing is left; return everything printed so far."""
        while most and (text := self._next()):
            self.printed += text
            most -= 1
        return self.printed


@contextmanager
def manual_console(geometry: Geometry = ROOMY) -> Iterator[tuple[ManualConsole, Log]]:
    with new_log(geometry) as log, closing(Doorbell.new()) as doorbell:
        yield ManualConsole(log, doorbell), log


@pytest.fixture(name="console")
def fixture_console() -> Iterator[ManualConsole]:
    with manual_console() as (console, log):
        console.log = log  # type: ignore[attr-defined]
        yield console


def log_of(console: ManualConsole) -> Log:
    log: Log = console.log  # type: ignore[attr-defined]
    return log


# --- output --------------------------------------------------------------------------------------


def test_the_conversation_is_printed_as_members_see_it(console: ManualConsole) -> None:
    log = log_of(console)
    assert console.print() == b""
    append_message(log, b"<a>hello\n")
    append_message(log, b"<b>hi\n<b>there\n")
    assert console.print() == b"<a>hello\n<b>hi\n<b>there\n"
    assert console.print() == b"<a>hello\n<b>hi\n<b>there\n"
    append_message(log, b"<a>bye\n")
    assert console.print().endswith(b"<b>there\n<a>bye\n")


def test_a_console_begins_at_the_head() -> None:
    with new_log(ROOMY) as log, closing(Doorbell.new()) as doorbell:
        append_message(log, b"<a>before\n")
        console = ManualConsole(log, doorbell)
        append_message(log, b"<a>after\n")
        assert console.print() == b"<a>after\n"


def test_notices_are_printed_after_earlier_messages(console: ManualConsole) -> None:
    log = log_of(console)
    console.print_line("a connected")
    append_message(log, b"<a>hello\n")
    append_message(log, b"<a>bye\n")
    console.print_line("a disconnected")
    console.print_line("b connected")
    append_message(log, b"<b>hi\n")
    assert console.print() == (
        b"a connected\n<a>hello\n<a>bye\na disconnected\nb connected\n<b>hi\n"
    )


def test_an_undecided_line_delays_later_text_and_keeps_its_place(
    console: ManualConsole,
) -> None:
    log = log_of(console)
    append_message(log, b"<a>hello\n")
    decide, other = console.reserve_line(), console.reserve_line()
    append_message(log, b"<b>hi\n")
    console.print_line("c connected")
    assert console.print() == b"<a>hello\n"
    decide("b connected")
    assert console.print() == b"<a>hello\nb connected\n"
    other(None)
    assert console.print() == b"<a>hello\nb connected\n<b>hi\nc connected\n"


def test_undecodable_bytes_in_a_notice_are_escaped(console: ManualConsole) -> None:
    """For example, the notice is an error that contains a path."""
    console.print_line("no folder /x\udcff")
    assert console.print() == b"no folder /x\\udcff\n"


def test_an_unfinished_line_is_printed_as_it_grows(console: ManualConsole) -> None:
    log = log_of(console)
    append_message(log, b"<a>hel")
    assert console.print() == b"<a>hel"
    append_message(log, b"<b>hi\n")
    assert console.print() == b"<a>hel\n<b>hi\n"


@pytest.mark.parametrize("at_once", [True, False])
def test_a_notice_ends_an_unfinished_line_without_doubling_its_end(
    at_once: bool, console: ManualConsole
) -> None:
    log = log_of(console)

    def look() -> None:
        if not at_once:
            console.print()

    append_message(log, b"<a>hel")
    look()
    console.print_line("b connected")
    look()
    console.print_line("c connected")
    look()
    append_message(log, b"<b>hi\n")
    look()
    append_message(log, b"\n")
    assert console.print() == b"<a>hel\nb connected\nc connected\n<b>hi\n\n"


def test_a_quiet_console_prints_only_notices() -> None:
    with closing(Doorbell.new()) as doorbell:
        console = ManualConsole(None, doorbell)
        console.print_line("listening on 127.0.0.1:8080")
        assert console.print() == b"listening on 127.0.0.1:8080\n"


def test_a_chunk_is_bounded(console: ManualConsole, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CHUNK", 10)
    log = log_of(console)
    for line in (b"<a>1\n", b"<a>2\n", b"<a>3\n", b"<a>as long as it is\n"):
        append_message(log, line)
    assert console.print(1) == b"<a>1\n<a>2\n"
    assert console.print(1) == b"<a>1\n<a>2\n<a>3\n"
    assert console.print(1).endswith(b"<a>3\n<a>as long as it is\n"), "one message or more"


def test_a_chunk_of_only_an_omitted_line_end_is_skipped(
    console: ManualConsole, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The omitted line end may be the only text of a chunk."""
    monkeypatch.setattr(module, "CHUNK", 10)
    log = log_of(console)
    append_message(log, b"<a>hel")
    console.print_line("b connected")
    console.print()
    append_message(log, b"<b>as long as it is\n")
    assert console.print() == b"<a>hel\nb connected\n<b>as long as it is\n"


# --- too far behind ------------------------------------------------------------------------------


@pytest.mark.parametrize(("open_line", "ends"), [(b"", b""), (b"<x>hel", b"\n")])
@pytest.mark.parametrize("at_end", [b"", b"<y>unfinished"])
def test_messages_beyond_the_limit_are_left_out_and_counted(
    open_line: bytes, ends: bytes, at_end: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_BEHIND", 100)
    with manual_console() as (console, log):
        append_message(log, b"<a>hello\n" + open_line)
        console.print()
        for _ in range(30):
            append_message(log, b"<b>hi\n")
        if at_end:
            append_message(log, at_end)
        count = 30 + bool(at_end)
        assert console.print() == b"<a>hello\n" + open_line + ends + b"(%d left out)\n" % count
        append_message(log, b"<a>bye\n")
        assert console.print().endswith(b" left out)\n<a>bye\n")


@pytest.mark.parametrize("line", [b"<a>%s\n" % (b"x" * 90), b"\n"], ids=["in bytes", "in entries"])
def test_lapped_messages_are_left_out_and_counted(line: bytes) -> None:
    with manual_console(Geometry(1 << 10, 1 << 6, 1 << 9, 1 << 5)) as (console, log):
        for _ in range(200):
            append_message(log, line)
        assert console.print() == b"(200 left out)\n"
        for _ in range(5):
            append_message(log, line)
        assert console.print() == b"(200 left out)\n" + line * 5


def test_notices_come_after_the_count_of_omitted_messages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_BEHIND", 100)
    with manual_console() as (console, log):
        append_message(log, b"<a>hello\n")
        console.print_line("b connected")
        for _ in range(30):
            append_message(log, b"<b>hi\n")
        assert console.print() == b"(31 left out)\nb connected\n"


def test_notices_beyond_the_limit_are_left_out_and_counted() -> None:
    with closing(Doorbell.new()) as doorbell:
        console = ManualConsole(None, doorbell)
        for number in range(MAX_LINES + 7):
            console.print_line(f"{number} connected")
        lines = console.print().splitlines()
        assert lines[:-1] == [b"%d connected" % number for number in range(MAX_LINES)]
        assert lines[-1] == b"(7 left out)"
        console.print_line("one more")
        assert console.print().endswith(b"(7 left out)\none more\n")


# --- against a model -----------------------------------------------------------------------------

STEPS = lists(
    one_of(
        tuples(
            just("append"),
            sampled_from([b"<a>hi\n", b"<a>x\n<a>y\n", b"<b>hel", b"<b>" + b"z" * 40]),
        ),
        tuples(just("say"), just(b"")),
        tuples(just("print"), integers(1, 3)),
    ),
    max_size=40,
)


@given(STEPS, sampled_from([1, 10, 50, 1 << 16]))
def test_every_notice_is_a_line_in_its_place(steps: list[Any], chunk: int) -> None:
    with pytest.MonkeyPatch.context() as monkeypatch, manual_console() as (console, log):
        monkeypatch.setattr(module, "CHUNK", chunk)
        appended = b""
        places: list[int] = []
        for action, argument in steps:
            if action == "append":
                append_message(log, argument)
                appended += b"\n" * (appended[-1:] not in (b"", b"\n")) + argument
            elif action == "say":
                console.print_line(f"notice {len(places)}")
                places.append(len(appended))
            else:
                console.print(argument)
        rest, at = console.print(), 0
        for number, place in enumerate(places):
            before, notice, rest = rest.partition(b"notice %d\n" % number)
            assert notice
            expected = appended[at:place]
            if at and appended[at - 1 : at] != b"\n":
                expected = expected.removeprefix(
                    b"\n"
                )  # The previous notice has already ended the line.
            if expected and not expected.endswith(b"\n"):
                expected += b"\n"
            assert before == expected
            at = place
        if at and appended[at - 1 : at] != b"\n" and places:
            assert rest == appended[at:].removeprefix(b"\n")
        else:
            assert rest == appended[at:]


def test_a_stream_closed_before_the_start_becomes_dev_null() -> None:
    fd = descriptor(None)
    assert os.path.samestat(os.fstat(fd), os.stat(os.devnull))
    os.close(fd)


# --- the thread ----------------------------------------------------------------------------------


class Reader:
    """The other end of the pipe that is the console's output."""

    def __init__(self) -> None:
        self.fd, self.output = os.pipe()

    def read(self, most: int = 1 << 16) -> bytes:
        assert select.select([self.fd], [], [], PATIENCE)[0], "nothing is printed"
        return os.read(self.fd, most)

    def read_until(self, end: bytes) -> bytes:
        text = b""
        while not text.endswith(end):
            text += self.read()
        return text

    def close(self) -> None:
        for fd in (self.fd, self.output):
            if fd >= 0:
                os.close(fd)
        self.fd = self.output = -1

    def hang_up(self) -> None:
        os.close(self.fd)
        self.fd = -1

    def end(self) -> bytes:
        """Return the rest of the output, after the writing end of the pipe is closed."""
        os.close(self.output)
        self.output = -1
        text = b""
        while data := self.read():
            text += data
        return text


@pytest.fixture(name="reader")
def fixture_reader() -> Iterator[Reader]:
    reader = Reader()
    yield reader
    reader.close()


@pytest.fixture(name="doorbell")
def fixture_doorbell() -> Iterator[Doorbell]:
    with closing(Doorbell.new()) as doorbell:
        yield doorbell


def thread() -> threading.Thread | None:
    """Return the console's thread, or None if this thread has ended."""
    return next((thread for thread in threading.enumerate() if thread.name == "console"), None)


def test_the_console_prints_when_its_doorbell_is_rung(reader: Reader, doorbell: Doorbell) -> None:
    with new_log(ROOMY) as log:
        console = Console(log, doorbell, reader.output)
        console.print_line("a connected")
        assert reader.read_until(b"\n") == b"a connected\n"
        append_message(log, b"<a>hello\n")
        doorbell.ring()
        assert reader.read_until(b"\n") == b"<a>hello\n"
        console.close(PATIENCE)
        assert thread() is None


def test_an_undecided_line_is_left_out_at_the_end(reader: Reader, doorbell: Doorbell) -> None:
    with new_log(ROOMY) as log:
        console = Console(log, doorbell, reader.output)
        decide = console.reserve_line()
        append_message(log, b"<a>hello\n")
        console.close(PATIENCE)
        assert reader.read() == b"<a>hello\n"
        decide("a connected")


def test_the_console_reads_again_while_another_process_holds_the_lock(
    reader: Reader, doorbell: Doorbell
) -> None:
    """The doorbell is not rung again. The console neither waits for the other process nor misses
    the message."""
    begin, written, end = os.pipe(), os.pipe(), os.pipe()
    with new_log(ROOMY) as log:
        child = os.fork()
        if not child:
            os.read(begin[0], 1)
            with log:
                log.append(batch_of(Run(1, b"<a>hello\n")))
                doorbell.ring()
                os.write(written[1], b".")
                os.read(end[0], 1)
            os._exit(0)
        console = Console(log, doorbell, reader.output)
        console.print_line("a connected")
        assert reader.read_until(b"\n") == b"a connected\n"
        os.write(begin[1], b".")
        assert os.read(written[0], 1)
        console.close(0)
        assert thread() is not None, "the thread still has a message to print"
        assert not select.select([reader.fd], [], [], 0)[0]
        os.write(end[1], b".")
        assert reader.read_until(b"\n") == b"<a>hello\n"
        assert os.waitpid(child, 0) == (child, 0)
        console.close(PATIENCE)
        assert thread() is None
    for fd in (*begin, *written, *end):
        os.close(fd)


def test_a_console_whose_thread_cannot_start_is_an_error(
    doorbell: Doorbell, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    with pytest.raises(LimitError, match="can't start new thread"):
        Console(None, doorbell, -1)


def test_close_prints_the_remaining_notices(reader: Reader, doorbell: Doorbell) -> None:
    console = Console(None, doorbell, reader.output)
    for number in range(500):
        console.print_line(f"{number}")
    console.close(PATIENCE)
    assert thread() is None
    assert reader.end() == b"".join(b"%d\n" % number for number in range(500))


def test_a_notice_during_close_is_printed(
    reader: Reader, doorbell: Doorbell, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The main thread prints its last line at the moment when the console finds nothing to
    print."""
    monkeypatch.setattr(module, "PAUSE", 0)
    talk: list[Callable[[], None]] = []

    class Interrupted(Console):
        def _next(self) -> bytes:
            text = super()._next()
            if not text and talk:
                talk.pop()()
            return text

    def print_last_line() -> None:
        console.print_line("the last line")
        close.set()
        closed.wait(PATIENCE)

    close, closed = threading.Event(), threading.Event()
    console = Interrupted(None, doorbell, reader.output)
    talk.append(print_last_line)
    console.print_line("first")
    assert close.wait(PATIENCE)
    closing_thread = threading.Thread(target=console.close, args=(PATIENCE,))
    closing_thread.start()
    assert console._closing.wait(PATIENCE)
    closed.set()
    closing_thread.join(PATIENCE)
    assert thread() is None
    assert reader.end() == b"first\nthe last line\n"


def test_an_unread_pipe_delays_nobody(reader: Reader, doorbell: Doorbell) -> None:
    """Lines that wait while nobody reads the output are printed later."""
    console = Console(None, doorbell, reader.output)
    line = "x" * 1000
    for _ in range(MAX_LINES):
        console.print_line(line)
    expected = (line.encode() + b"\n") * MAX_LINES
    text = reader.read(1)  # The console now writes more than a pipe holds.
    console.close(0)
    assert thread() is not None, "close returns before the thread ends"
    while len(text) < len(expected):
        text += reader.read()
    assert text == expected
    console.close(PATIENCE)
    assert thread() is None


def test_a_non_blocking_pipe_is_waited_for(reader: Reader, doorbell: Doorbell) -> None:
    os.set_blocking(reader.output, False)
    console = Console(None, doorbell, reader.output)
    for _ in range(500):
        console.print_line("x" * 1000)
    console.print_line("the end")
    assert reader.read_until(b"the end\n") == (b"x" * 1000 + b"\n") * 500 + b"the end\n"
    console.close(PATIENCE)
    assert thread() is None


def test_a_closed_pipe_ends_only_the_console(reader: Reader, doorbell: Doorbell) -> None:
    console = Console(None, doorbell, reader.output)
    reader.hang_up()
    console.print_line("nothing reads this")
    if (running := thread()) is not None:
        running.join(PATIENCE)
    assert thread() is None
    for _ in range(MAX_LINES + 5):
        console.print_line("nor this")
    assert len(console._lines) <= MAX_LINES, "the queue of lines has a limit"
    console.close(PATIENCE)
