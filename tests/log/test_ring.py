"""Tests of the room's log: two rings, one head, and a lock that is released if its holder dies."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis.strategies import SearchStrategy, integers, lists, one_of, sampled_from, tuples

from chatroom.config.limits import SEATS
from chatroom.config.settings import Settings
from chatroom.log.origin import Origin
from chatroom.log.ring import IDLE, Batch, Geometry, Log
from chatroom.system.memory import anonymous_file
from tests.log.entries import TINY, Run, append, append_message, batch_of, head, new_log, runs, text

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(name="log")
def fixture_log() -> Iterator[Log]:
    with new_log(workers=2) as log:
        yield log


# --- appending -----------------------------------------------------------------------------------


def test_an_empty_log(log: Log) -> None:
    assert head(log) == 1
    assert log.offset(1) == 0
    assert log.messages(1) == 0
    assert not log.unfinished(0)
    assert text(log, 0, 0) == b""
    with log:
        assert log.serving() == []
        assert log.retire(0) == []


def test_appended_entries_can_be_read(log: Log) -> None:
    assert append(log, Run(7, b"<a>hi\n", 3), Run(8, b"<b>x\n<b>y\n", 5, 2)) == 0
    assert append(log, Run(7, b"<a>!\n", 4)) == 16
    assert text(log, 0, 21) == b"<a>hi\n<b>x\n<b>y\n<a>!\n"
    assert [log.offset(position) for position in range(1, 5)] == [0, 6, 16, 21]
    assert [log.messages(position) for position in range(1, 5)] == [0, 1, 3, 4]
    assert runs(log) == [
        Run(7, b"<a>hi\n", 3, 1),
        Run(8, b"<b>x\n<b>y\n", 5, 2),
        Run(7, b"<a>!\n", 4, 1),
    ]


def test_an_entry_contains_its_sender_s_origin(log: Log) -> None:
    """The LF that ends a sender's unfinished line is an entry with the same origin (LINE-6)."""
    append(log, Run(7, b"<at7>hi\n<at7>hel", messages=2))
    append(log, Run(8, b"<8>hi\n"))
    origins = [Origin.unpack(origin) for *_, origin in log.entries(1, head(log))]
    assert origins == [("at7", 5), ("at7", 5), ("at8", 3)]


def test_line_6_the_lf_that_ends_a_line_is_an_entry_of_its_sender(log: Log) -> None:
    append(log, Run(7, b"<a>hel", 3))
    assert log.unfinished(6)
    assert append(log, Run(8, b"<b>hi\n", 3)) == 7
    assert runs(log) == [Run(7, b"<a>hel", 3, 1), Run(7, b"\n", 3, 0), Run(8, b"<b>hi\n", 3, 1)]
    assert not log.unfinished(13)


def test_line_6_the_lf_comes_before_a_message_of_the_same_sender_too(log: Log) -> None:
    append(log, Run(7, b"<a>hel", 3))
    assert append(log, Run(7, b"<a>lo\n", 6)) == 7
    assert text(log, 0, 13) == b"<a>hel\n<a>lo\n"


def test_line_6_the_lf_within_a_batch_is_part_of_the_run_that_it_ends(log: Log) -> None:
    append(log, Run(7, b"<a>hel", 3), Run(8, b"<b>hi\n", 3), Run(9, b"<c>bye", 3))
    assert runs(log) == [Run(7, b"<a>hel\n", 3), Run(8, b"<b>hi\n", 3), Run(9, b"<c>bye", 3)]
    assert log.unfinished(19)


def test_a_batch_counts_its_bytes_and_messages() -> None:
    def state() -> tuple[int, int, int, bool]:
        return len(batch), batch.size, batch.messages, batch.ends_line

    batch = Batch()
    assert state() == (0, 0, 0, True)
    batch.add(1, b"", 2, b"<a>he", 1)
    assert state() == (1, 5, 1, False)
    batch.add(2, b"", 2, b"<b>x\n<b>y\n", 2)
    assert state() == (2, 16, 3, True)
    assert batch.text() == b"<a>he\n<b>x\n<b>y\n"


# --- the rings -----------------------------------------------------------------------------------


def test_text_that_wraps_is_two_views(log: Log) -> None:
    append_message(log, b"x" * 39 + b"\n")
    start = append_message(log, b"0123456789" * 4 + b"\n")
    end = start + 41
    assert [bytes(view) for view in log.views(start, end)] == [
        b"012345678901234567890123",
        b"4567890123456789\n",
    ]
    assert len(log.views(start, TINY.text)) == 1, "text up to the end of the ring is one view"
    assert [bytes(view) for view in log.views(TINY.text, end)] == [b"4567890123456789\n"]
    assert log.offset(head(log)) == end


def test_unfinished_works_at_the_end_of_the_ring(log: Log) -> None:
    append_message(log, b"x" * 31 + b"\n")
    append_message(log, b"x" * 32)
    assert log.unfinished(TINY.text)
    assert append_message(log, b"y\n") == TINY.text + 1
    assert not log.unfinished(TINY.text + 1)


def test_entries_wrap_in_their_ring(log: Log) -> None:
    for number in range(40):
        append_message(log, b"%d\n" % (number % 10), sender=number)
    # An entry begins where the previous entry ends. So only 15 of 16 entries can be read.
    assert runs(log, head(log) - 15) == [Run(n, b"%d\n" % (n % 10)) for n in range(25, 40)]
    assert log.messages(head(log)) == 40


def test_a_position_follows_from_an_offset(log: Log) -> None:
    for _ in range(3):
        append(log, *(Run(1, b"x" * length) for length in (1, 3, 2, 5)))
    last = head(log)
    first = last - 11
    for low in range(first, last + 1):
        for offset in range(log.offset(low), log.offset(last) + 1):
            expected = max(at for at in range(low, last + 1) if log.offset(at) <= offset)
            assert log.position(offset, low, last) == expected


def test_two_logs_on_one_file_share_their_entries(log: Log) -> None:
    other = Log(log.fd, TINY)
    append_message(log, b"hello\n")
    assert runs(other) == [Run(1, b"hello\n")]
    append_message(other, b"hi\n")
    assert runs(log) == [Run(1, b"hello\n"), Run(1, b"hi\n")]


def test_the_geometry_of_a_log_follows_from_the_settings() -> None:
    settings = Settings(log_size=1 << 20, max_lag=1 << 18)
    geometry = Geometry.of(settings.limits)
    assert geometry.text == settings.log_size
    assert geometry.text - geometry.kept == settings.window
    assert (geometry.entries, geometry.kept_entries) == (4096, 3072)
    assert geometry.file_size == 8192 + 4096 * 56 + (1 << 20)


def test_every_seat_has_its_own_words() -> None:
    with new_log(workers=SEATS) as log, log:
        for worker in range(SEATS):
            log.serve(worker, worker + 1)
            log.wait_for_space(worker)
        assert log.serving() == [*range(SEATS)]
        assert log.retire(0) == [*range(SEATS)]
        assert log.head == 1, "a seat's words overwrite the head"
        assert log.offset(1) == 0


# --- space to append ------------------------------------------------------------------------------

WINDOW = TINY.text - TINY.kept


def test_the_slowest_worker_limits_an_append_in_bytes(log: Log) -> None:
    with log:
        log.serve(0, 1)
        log.serve(1, 1)
    assert append(log, Run(1, b"x" * WINDOW + b"\n")) is None
    assert append(log, Run(1, b"x" * (WINDOW - 1) + b"\n")) == 0
    assert append(log, Run(1, b"\n")) is None
    with log:
        log.advance(0, 2)
    assert append(log, Run(1, b"\n")) is None, "worker 1 has not advanced yet"
    with log:
        log.advance(1, 2)
    assert append(log, Run(1, b"x" * (WINDOW - 1) + b"\n")) == WINDOW


def test_the_slowest_worker_limits_an_append_in_entries(log: Log) -> None:
    most = TINY.entries - TINY.kept_entries
    with log:
        log.serve(0, 1)
    assert append(log, *[Run(1, b"\n")] * (most + 1)) is None
    assert append(log, *[Run(1, b"\n")] * most) == 0
    assert append(log, Run(1, b"\n")) is None
    with log:
        log.advance(0, 2)
    assert append(log, Run(1, b"\n")) == most


def test_the_lf_that_ends_a_line_needs_space_too(log: Log) -> None:
    most = TINY.entries - TINY.kept_entries
    with log:
        log.serve(0, 1)
    append(log, Run(1, b"x"))
    assert append(log, Run(1, b"y" * (WINDOW - 1))) is None, "no space in bytes"
    assert append(log, *[Run(1, b"\n")] * (most - 1)) is None, "no space in entries"
    assert append(log, *[Run(1, b"\n")] * (most - 2)) == 2


def test_a_batch_that_does_not_fit_changes_nothing(log: Log) -> None:
    with log:
        log.serve(0, 1)
    append(log, Run(1, b"x" * 40))
    memory = os.pread(log.fd, TINY.file_size, 0)
    assert append(log, Run(1, b"y" * 40)) is None
    assert os.pread(log.fd, TINY.file_size, 0) == memory


def test_a_worker_without_members_does_not_limit_appends(log: Log) -> None:
    with log:
        log.serve(0, 1)
        log.serve(1, 1)
        assert log.serving() == [0, 1]
    log.retire(0)
    with log:
        assert log.serving() == [1]
    log.retire(1)
    with log:
        assert log.serving() == []
    for number in range(100):
        assert append(log, Run(1, b"x" * (WINDOW - 1) + b"\n")) == number * WINDOW


def test_a_worker_that_begins_to_serve_limits_space_found_earlier(
    log: Log,
) -> None:
    append(log, Run(1, b"x" * (WINDOW // 2 - 1) + b"\n"))  # No worker serves, so there is space.
    with log:
        log.serve(0, log.head)
    said = 0
    while append(log, Run(1, b"x\n")) is not None:
        said += 2
    assert said <= WINDOW
    with log:
        log.advance(0, log.head)
    assert append(log, Run(1, b"x" * (WINDOW - 1) + b"\n")) == WINDOW // 2 + said


def test_waiting_workers_are_returned_once_there_may_be_space(log: Log) -> None:
    with log:
        log.serve(0, 1)
        log.wait_for_space(1)
        log.wait_for_space(1)
        assert log.advance(0, 1) == [], "no space was freed"
        assert log.advance(0, 2) == [1]
        assert log.advance(0, 3) == []
        log.wait_for_space(1)
        log.wait_for_space(0)
        assert log.retire(0) == [0, 1]


# --- for the main process, and for recovery ------------------------------------------------------


def test_load_4_the_spans_of_each_sender_are_found_in_one_pass(log: Log) -> None:
    """The pass may start at any entry that is not overwritten, and the entries may wrap."""
    appended = [
        Run(number % 3, b"%d\n" % (number % 10) * (number % 2 + 1), number) for number in range(40)
    ]
    for run in appended:
        append(log, run)
    last = head(log)
    for first in range(last - 15, last + 1):
        spans, reaches = log.spans_by_sender(first, last)
        expected: dict[int, list[bytes]] = {}
        for run in appended[first - 1 :]:
            expected.setdefault(run.sender, []).append(run.text)
        assert {
            sender: [text(log, *span) for span in theirs] for sender, theirs in spans.items()
        } == expected
        assert reaches == {run.sender: run.reach for run in appended[first - 1 :]}


def test_line_6_the_lf_is_in_the_spans_of_its_sender(log: Log) -> None:
    append(log, Run(7, b"<a>hel", 3))
    append(log, Run(8, b"<b>hi\n", 3))
    assert log.spans_by_sender(1, head(log)) == ({7: [(0, 6), (6, 7)], 8: [(7, 13)]}, {7: 3, 8: 3})
    assert log.sender(2) == log.sender(3) == 7
    assert log.sender(4) == 8


def test_a_worker_that_takes_a_seat_resets_its_words() -> None:
    with new_log(workers=2) as log, log:
        log.turn(1)
        log.mark_suspect(1, 42)
        assert (log.turns(0), log.turns(1), log.suspect(0), log.suspect(1)) == (0, 1, 0, 42)
        log.serve(1, 5)
        log.wait_for_space(1)
        assert (log.worker_position(1), log.has_waiting) == (5, True)
        log.retire(1)
        log.wait_for_space(1)
        log.prepare_seat(1)
        assert log.suspect(1) == 0
        assert log.retire(0) == [], "the dead worker, which waited, was retired before"
        log.serve(0, 5)
        assert log.retire(0) == [], "the new worker waits for space"
        assert not log.has_waiting
        log.turn(1)
        assert log.turns(1) == 2, "the next worker continues the count"
        log.prepare_seat(7)
        log.serve(7, 6)
        assert log.serving() == [7], "a seat with a higher number also serves"


# --- against a model -----------------------------------------------------------------------------

RUN = tuples(integers(1, 3), sampled_from([b"a", b"bc\n", b"\n", b"x" * 20 + b"\n", b"y\nz"]))
STEPS: SearchStrategy[list[tuple[str, Any]]] = lists(
    one_of(
        tuples(sampled_from(["append"]), lists(RUN, min_size=1, max_size=4)),
        tuples(sampled_from(["advance"]), tuples(integers(0, 1), integers(0, 3))),
        tuples(sampled_from(["retire"]), integers(0, 1)),
    ),
    max_size=40,
)


class Model:
    """A model of the log, which keeps all entries and the positions of the workers."""

    def __init__(self) -> None:
        self.appended: list[Run] = []
        self.positions = {0: IDLE, 1: IDLE}

    @property
    def stream(self) -> bytes:
        return b"".join(run.text for run in self.appended)

    def offset(self, position: int) -> int:
        return sum(len(run.text) for run in self.appended[: position - 1])

    def grown(self, batch: list[Run]) -> list[Run]:
        """Return all runs as they would be after an append of the batch."""
        appended = list(self.appended)
        if appended and not appended[-1].text.endswith(b"\n"):
            appended.append(appended[-1]._replace(text=b"\n", messages=0))
        for run, following in zip(batch, [*batch[1:], None], strict=True):
            ended = following is None or run.text.endswith(b"\n")
            appended.append(run if ended else run._replace(text=run.text + b"\n"))
        return appended

    def has_space(self, appended: list[Run]) -> bool:
        slowest = min(*self.positions.values(), len(self.appended) + 1)
        unread = appended[slowest - 1 :]
        return (
            sum(len(run.text) for run in unread) <= WINDOW
            and len(unread) <= TINY.entries - TINY.kept_entries
        )


@given(STEPS)
def test_the_log_equals_its_model(steps: list[tuple[str, Any]]) -> None:
    model = Model()
    with new_log(workers=2) as log:
        for step in steps:
            match step:
                case ("append", pairs):
                    batch = [
                        Run(sender, appended, len(model.appended) + at, appended.count(b"\n") or 1)
                        for at, (sender, appended) in enumerate(pairs)
                    ]
                    grown = model.grown(batch)
                    fits = model.has_space(grown)
                    start = append(log, *batch)
                    assert (start is not None) == fits
                    if fits:
                        model.appended = grown
                        assert start == len(model.stream) - batch_of(*batch).size
                case ("advance", (worker, back)):
                    position = max(head(log) - back, 1)
                    before = model.positions[worker]
                    if before == IDLE:  # a worker begins at the head
                        position = head(log)
                    model.positions[worker] = max(position, before % IDLE)
                    with log:
                        log.advance(worker, model.positions[worker])
                case ("retire", worker):
                    model.positions[worker] = IDLE
                    log.retire(worker)
            check(log, model)


def check(log: Log, model: Model) -> None:
    """Check that the log has all entries that it must keep, and that these equal the model's
    entries."""
    end = len(model.stream)
    assert head(log) == len(model.appended) + 1
    assert log.offset(head(log)) == end
    assert log.unfinished(end) == (not model.stream.endswith(b"\n") and end > 0)
    slowest = min(*model.positions.values(), head(log))
    # An entry begins where the previous entry ends. So the start of the first kept entry is
    # unknown.
    first = max(slowest - TINY.kept_entries + 1, 1)
    for position in range(first, head(log) + 1):
        assert log.offset(position) == model.offset(position)
        assert log.messages(position) == sum(run.messages for run in model.appended[: position - 1])
    owed = max(model.offset(slowest) - TINY.kept, 0)
    assert text(log, owed, end) == model.stream[owed:]
    positions = range(max(slowest - 1, 1), head(log))
    readable = [at for at in positions if model.offset(at) >= owed]
    for position in readable:
        assert runs(log, position, position + 1) == [model.appended[position - 1]]


# --- processes -----------------------------------------------------------------------------------


def python(
    code: str, log: Log, *arguments: object, env: dict[str, str] | None = None
) -> "subprocess.Popen[str]":
    """Run code in another process, in which the name `log` is this log."""
    begin = f"""
import os, signal, sys
sys.path.insert(0, {str(ROOT)!r})
from chatroom.log.ring import Geometry, Log
from tests.log.entries import Run, append, batch_of, head, runs, text
log = Log({log.fd}, {log.geometry})
"""
    return subprocess.Popen(
        [sys.executable, "-c", begin + code, *map(str, arguments)],
        env=env,
        pass_fds=[log.fd],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


TAKE_LOCK = """
import fcntl
try:
    fcntl.lockf(log.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
except BlockingIOError:
    print("taken", flush=True)
with log:
    print("free")
"""


def line_of(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    return process.stdout.readline()


def test_load_4_the_lock_of_a_killed_holder_is_released(log: Log) -> None:
    with python("with log: print('held', flush=True); signal.pause()", log) as holder:
        assert line_of(holder) == "held\n"
        with python(TAKE_LOCK, log) as waiter:
            assert line_of(waiter) == "taken\n"
            holder.kill()
            assert waiter.communicate(timeout=30)[0] == "free\n"
    with log:
        assert log.head == 1


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells the holder")
def test_load_4_the_holder_of_the_lock_is_known(log: Log) -> None:
    assert log.holder() is None
    with log:
        assert log.holder() is None, "only other processes count as holder"
    with python("with log: print('held', flush=True); signal.pause()", log) as holder:
        assert line_of(holder) == "held\n"
        assert log.holder() == holder.pid
        holder.kill()
        holder.wait(30)
        assert log.holder() is None


KILLED_AT_EVERY_LINE = """
# This process forks a child for each line of `append`. The child is killed at this line.
import fcntl, json
import chatroom.log.ring

def die_at(line, inside):
    def trace(frame, event, _):
        nonlocal line
        line -= event == "line"
        if not line:
            os.kill(os.getpid(), signal.SIGKILL)
        return trace
    sys.settrace(lambda frame, *_: trace if frame.f_code.co_filename == inside else None)

deaths, status = [], -1
while status:
    before = head(log)
    child = os.fork()
    if not child:
        batch = batch_of(Run(8, b"<8>half\\n" * 3, 5), Run(9, b"<9>way", 6))
        with log:
            die_at(len(deaths) + 1, chatroom.log.ring.__file__)
            log.append(batch)
            sys.settrace(None)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    fcntl.lockf(log.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    between = runs(log, before)
    append(log, Run(7, b"<7>after"))
    deaths.append((status, between, runs(log, before + len(between))))
    # Fill the ring once (64 bytes, with the LFs), so that the next child executes the same lines.
    append(log, Run(7, b"<7>" + b"." * 23))
    append(log, Run(7, b"<7>" + b"." * 24))
print(json.dumps([[status, str(between), str(after)] for status, between, after in deaths]))
"""


@pytest.mark.pure
def test_load_4_a_writer_killed_during_an_append_has_appended_nothing(log: Log) -> None:
    """The writer is killed at each line of `append`. The next append by another process
    succeeds."""
    append_message(log, b"<7>" + b"before" * 7, sender=7)  # so long that the next text wraps
    # The process traces its own lines, because no other process can trace them.
    unmeasured = {name: value for name, value in os.environ.items() if "COVERAGE" not in name}
    with python(KILLED_AT_EVERY_LINE, log, env=unmeasured) as process:
        out, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    nothing: list[Run] = []
    whole = [
        Run(7, b"\n", 0, 0),
        Run(8, b"<8>half\n" * 3, 5),
        Run(9, b"<9>way", 6),
    ]
    deaths: dict[tuple[int, str], int] = {}
    for status, between, after in json.loads(out):
        deaths[status, between] = deaths.get((status, between), 0) + 1
        ender = 7 if between == str(nothing) else 9
        reach = 0 if ender == 7 else 6
        assert after == str([Run(ender, b"\n", reach, 0), Run(7, b"<7>after")])
    killed_before, killed_after, survived = deaths.items()
    assert killed_before[0] == (signal.SIGKILL, str(nothing))
    assert killed_before[1] > 20, "a death at each line before the new head is stored"
    assert killed_after[0] == (signal.SIGKILL, str(whole))
    assert survived == ((0, str(whole)), 1)


APPEND_MANY = """
sender = int(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
for reach in range(1000):
    name = b"%d-%d-" % (sender, reach)
    more = [Run(sender, name * 3 + b"\\n", reach)] if reach % 3 else []
    assert append(log, Run(sender, name * (reach % 7 + 1) + b"\\n" * (reach % 2), reach), *more)
"""


def test_concurrent_appends_mix_no_entries() -> None:
    senders = [1, 2]
    with new_log(Geometry(1 << 20, 1 << 14, 1 << 10, 10)) as log:
        append_message(log, b"so that no batch begins at 0\n", sender=0)
        with python(APPEND_MANY, log, 1) as first, python(APPEND_MANY, log, 2) as other:
            for process in (first, other):
                assert line_of(process) == "ready\n"
            for process in (first, other):
                assert process.stdin is not None
                process.stdin.write("go\n")
                process.stdin.flush()
        assert first.returncode == other.returncode == 0
        appended = runs(log, 2)
    assert {run.sender for run in appended} == set(senders)
    for sender in senders:
        parts: dict[int, bytes] = {}
        for run in appended:
            if run.sender == sender:
                parts[run.reach] = parts.get(run.reach, b"") + run.text
        assert list(parts) == [*range(1000)], "the log lacks an entry, or their order is wrong"
        for reach, found in parts.items():
            name = b"%d-%d-" % (sender, reach)
            more = name * 3 + b"\n" if reach % 3 else b""
            expected = name * (reach % 7 + 1) + b"\n" + more
            assert found == expected or (reach == 999 and found + b"\n" == expected)


# --- without waiting for the lock ----------------------------------------------------------------


@pytest.fixture(name="views")
def fixture_views() -> Iterator[tuple[Log, Log]]:
    """Yield two views of one log, one for the main process and one for another process."""
    settings = Settings(log_size=1 << 20, max_lag=1 << 18)
    geometry = Geometry.of(settings.limits)
    fd = anonymous_file("a test's log", geometry.file_size)
    main = Log(fd, geometry)
    main.format()
    main.prepare_seat(0)
    yield main, Log(fd, geometry)
    os.close(fd)


def message_of_the_room(text: bytes = b"<room>hello\n") -> Batch:
    return batch_of(Run(0, text))


def test_append_within_appends_if_the_lock_is_free(views: tuple[Log, Log]) -> None:
    main, other = views
    assert main.append_within(1, message_of_the_room())
    assert main.append_within(1, message_of_the_room())
    assert b"".join(other.views(0, other.offset(other.head))) == b"<room>hello\n" * 2


def test_load_4_append_within_does_not_wait_for_a_hung_holder(
    views: tuple[Log, Log],
) -> None:
    """The main process uses `append_within`. It must not hang, because it has to kill the hung
    process."""
    main, other = views
    begun, go_on = os.pipe(), os.pipe()
    child = os.fork()
    if not child:
        with other:
            os.write(begun[1], b".")
            os.read(go_on[0], 1)
        os._exit(0)
    assert os.read(begun[0], 1)
    assert not main.append_within(0.01, message_of_the_room())
    os.write(go_on[1], b".")
    assert os.waitpid(child, 0) == (child, 0)
    assert main.append_within(1, message_of_the_room())
    for fd in (*begun, *go_on):
        os.close(fd)


@pytest.mark.pure
def test_try_head_does_not_disturb_an_append_of_another_thread(
    views: tuple[Log, Log], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On systems that do not tell the holder of a lock, `try_head` takes the lock itself."""
    main, other = views
    append_, heads = main.append, []

    def append(batch: Batch) -> int | None:
        heads.append(main.try_head())
        with python(TAKE_LOCK, other) as waiter:
            assert line_of(waiter) == "taken\n"
            waiter.kill()
        return append_(batch)

    monkeypatch.setattr(sys, "platform", "another")
    monkeypatch.setattr(main, "append", append)
    assert main.append_within(1, message_of_the_room())
    assert heads == [None]
    assert (main.try_head(), other.try_head()) == (2, 2)


def test_try_head_returns_none_while_another_process_holds_the_lock(log: Log) -> None:
    assert log.try_head() == 1
    with python("with log: print('held', flush=True); signal.pause()", log) as holder:
        assert line_of(holder) == "held\n"
        assert log.try_head() is None
        holder.kill()
        holder.wait(30)
    assert log.try_head() == 1


def test_append_within_appends_nothing_without_space(views: tuple[Log, Log]) -> None:
    main, _ = views
    with main:
        main.serve(0, 1)
    while main.append_within(1, message_of_the_room(b"x" * 10_000 + b"\n")):
        pass
    head = main.head
    assert not main.append_within(0.01, message_of_the_room(b"x" * 10_000 + b"\n"))
    assert main.head == head
