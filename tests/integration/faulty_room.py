"""A room whose processes fail at certain moments, which a test chooses.

    with faulty_room(tmp_path, "stored", "--workers", 2) as (here, rounds):
        rounds.load()
        ...  # something in which text is appended
        rounds.wait_until_fired()

"stored" is a place in the workers' code: see `POINTS`. Whoever comes by there looks for a *round*,
a file in a folder of the test's, and takes it away. One process alone can take it, and dies for it.
So a test says when that may happen, how often, and to whom.

multiprocessing has each child import this module (as `__mp_main__`) before anything else: that is
where the workers' code is wrapped. The room's own code knows nothing of it.
"""

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

from chatroom.cli import main
from chatroom.main import crew
from chatroom.protocol.framing import Framer
from chatroom.shared import log
from chatroom.shared.doorbell import Doorbell
from chatroom.shared.log import Batch, Log
from chatroom.shared.slots import Checkpoint, Slots
from chatroom.transcript.file import TranscriptFile
from chatroom.transcript.process import Writer
from chatroom.transcript.reader import Reader
from chatroom.worker import process
from chatroom.worker.delivery import Delivery
from chatroom.worker.loop import Worker
from chatroom.worker.member import Member
from chatroom.worker.recovery import Past
from tests.integration.rooms import WELCOME, Room, started
from tests.integration.waiting import until

WORD = b"unspeakable"
"""What must not be said where the point is "word"."""

Wrap = Callable[[Callable[[], None]], None]
"""Has a place in the code call something, each time that a process comes by."""

# --- what a process does there -------------------------------------------------------------------


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def hang() -> None:
    """Be stopped, until somebody has it go on, or kills it."""
    os.kill(os.getpid(), signal.SIGSTOP)


def spin() -> None:
    while True:
        pass


def fail() -> None:
    raise OSError("out of luck")


ACTS = {act.__name__: act for act in (die, hang, spin, fail)}


# --- where ---------------------------------------------------------------------------------------


def before(owner: Any, name: str, when: Callable[..., bool] = lambda *_: True) -> Wrap:
    """Where `owner.name` is about to be called, with arguments of which `when` is true."""

    def wrap(fire: Callable[[], None]) -> None:
        wrapped = getattr(owner, name)

        def faulty(*arguments: Any, **options: Any) -> Any:
            if when(*arguments):
                fire()
            return wrapped(*arguments, **options)

        setattr(owner, name, faulty)

    return wrap


def behind(owner: Any, name: str, when: Callable[..., bool] = lambda *_: True) -> Wrap:
    """Where `owner.name` is done, with a result and arguments of which `when` is true."""

    def wrap(fire: Callable[[], None]) -> None:
        wrapped = getattr(owner, name)

        def faulty(*arguments: Any, **options: Any) -> Any:
            result = wrapped(*arguments, **options)
            if when(result, *arguments):
                fire()
            return result

        setattr(owner, name, faulty)

    return wrap


def half_stored(fire: Callable[[], None]) -> None:
    """In the middle of the text of an append, with the lock."""
    store = log._store

    def faulty(ring: memoryview, start: int, data: bytes) -> None:
        half = len(data) // 2
        store(ring, start, data[:half])
        fire()
        store(ring, start + half, data[half:])

    log._store = faulty


def half_noted(fire: Callable[[], None]) -> None:
    """In the middle of a checkpoint."""
    note = Slots.note

    class Half(tuple[int, ...]):
        __slots__ = ()

        def __getitem__(self, number: Any) -> Any:
            if number == 2:
                fire()
            return super().__getitem__(number)

    def faulty(self: Slots, slot: int, checkpoint: Checkpoint) -> None:
        note(self, slot, Half(checkpoint))  # type: ignore[arg-type]

    Slots.note = faulty  # type: ignore[method-assign]


def half_written(fire: Callable[[], None]) -> None:
    """In the middle of what is written into the transcript."""
    append = TranscriptFile.append

    def faulty(self: TranscriptFile, data: bytes) -> None:
        os.write(self.fd, data[: len(data) // 2])
        fire()
        os.ftruncate(self.fd, os.fstat(self.fd).st_size - len(data) // 2)
        append(self, data)

    TranscriptFile.append = faulty  # type: ignore[method-assign]


def sending(what: str) -> Wrap:
    """When the kernel has taken `what` of something for a member: all, a part, half, greeting."""

    def wrap(fire: Callable[[], None]) -> None:
        begin = Member.__init__

        def faulty(self: Member, *arguments: Any) -> None:
            begin(self, *arguments)
            connection = self.socket

            def send(data: bytes) -> int:
                if (what == "half" and len(data) > 1) or (what == "greeting" and data == WELCOME):
                    half = len(data) // 2
                    taken = connection.send(data[:half])
                    fire()
                    return taken + connection.send(data[half:]) if taken == half else taken
                taken = connection.send(data)
                if what == ("all" if taken == len(data) else "part"):
                    fire()
                return taken

            faulted: Any = self
            faulted.send = send
            faulted.sendmsg = lambda views: send(b"".join(views))

        Member.__init__ = faulty  # type: ignore[method-assign, assignment]

    return wrap


#: Where a worker may die, or the one that writes the transcript.
POINTS: dict[str, Wrap] = {
    "starting": before(process, "_begin"),
    "turn": before(Worker, "_read"),
    # It has read something that nobody else knows of.
    "read": before(Framer, "feed"),
    "framed": behind(Framer, "feed"),
    "word": before(Framer, "feed", lambda _, data: WORD in data),
    "flushed": behind(Framer, "flush"),
    "closed": behind(Framer, "close"),
    # It appends: with the lock, but for the first and the last.
    "batch": before(Worker, "_append", lambda self: bool(self._batch)),
    "locked": before(Log, "append"),
    "joined": behind(Batch, "text"),
    "half stored": half_stored,
    "stored": before(Log, "_put"),
    "put": behind(Log, "_put"),
    "appended": behind(Log, "append"),
    "unattributed": before(Worker, "_attribute"),
    "attributed": behind(Worker, "_attribute"),
    "full": behind(Log, "wait_for_room"),
    # It delivers.
    "unrung": before(Doorbell, "ring"),
    "rung": behind(Doorbell, "ring"),
    "delivering": before(Delivery, "advance"),
    "half sent": sending("half"),
    "sent": sending("all"),
    "partly sent": sending("part"),
    "delivered": behind(Delivery, "advance"),
    "resuming": before(Delivery, "resume"),
    "resumed": behind(Delivery, "resume"),
    "published": behind(Delivery, "tell"),
    # It notes where they stand.
    "unnoted": before(Worker, "_note_all"),
    "half noted": half_noted,
    "noted": behind(Slots, "note"),
    "all noted": behind(Worker, "_note_all"),
    # It adopts.
    "handed": before(Worker, "_adopt", lambda self: bool(self._handed)),
    "found": behind(Past, "of"),
    "ungreeted": before(Worker, "_greet"),
    "half greeted": sending("greeting"),
    "greeted": behind(Worker, "_greet"),
    "going on": before(Worker, "_go_on"),
    "gone on": behind(Worker, "_go_on"),
    "adopted": behind(Worker, "_adopt"),
    "reading again": before(Worker, "_read_again", lambda self: bool(self._again)),
    # It yields.
    "yielding": before(Worker, "_yield", lambda self: bool(self._yielding)),
    "held": behind(Delivery, "hold"),
    "yielded": before(Worker, "_tell", lambda _, record: "yielded" in record),
    "settled": before(Delivery, "unhold"),
    # Someone leaves.
    "leaving": before(Worker, "_remove"),
    "left": behind(Worker, "_remove"),
    "parted": behind(Member, "close"),
    "unreported": before(Worker, "_tell", lambda _, record: "left" in record),
    "reported": behind(Worker, "_tell", lambda _, __, record: "left" in record),
    # The room stops.
    "stopping": before(Worker, "_part"),
    # The transcript is written.
    "transcript looking": before(Reader, "look"),
    "transcript found": behind(Reader, "look"),
    "transcript asked": behind(Writer, "_ask", lambda asked, *_: asked),
    "transcript unwritten": before(TranscriptFile, "append"),
    "transcript half written": half_written,
    "transcript written": behind(TranscriptFile, "append"),
    "transcript done": behind(Reader, "done"),
    "transcript synced": behind(TranscriptFile, "sync"),
    "transcript mending": before(TranscriptFile, "repair"),
    "transcript opening": before(Writer, "_open"),
    "transcript opened": behind(TranscriptFile, "open"),
    "transcript open": behind(Writer, "_open"),
}


# --- in the room's processes ---------------------------------------------------------------------


def install() -> None:
    """Wrap what the environment says, in a process that has just been started."""
    folder, skip, act = (
        os.environ["FAULT_ROUNDS"],
        int(os.environ["FAULT_SKIP"]),
        os.environ["FAULT_ACT"],
    )
    calls = count(1)

    def fire() -> None:
        mine = [
            name for name in os.listdir(folder) if name.split("-")[0] in ("any", str(os.getpid()))
        ]
        if not mine or next(calls) <= skip:
            return
        for name in mine:
            try:
                os.unlink(f"{folder}/{name}")
            except FileNotFoundError:
                continue  # another process took it
            ACTS[act]()
            return

    POINTS[os.environ["FAULT_POINT"]](fire)


# --- in the test ---------------------------------------------------------------------------------


class Rounds:
    """How many processes are to fail, from now on, when they come by the point."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._numbers = count()

    def load(self, count: int = 1, pid: int | None = None) -> None:
        """So many of them; `pid`: only the process of that pid."""
        for _ in range(count):
            (self.folder / f"{pid or 'any'}-{next(self._numbers)}").touch()

    @property
    def left(self) -> int:
        return len(os.listdir(self.folder))

    def wait_until_fired(self) -> None:
        until(lambda: not self.left, "a process comes by the point")


@contextmanager
def faulty_room(
    folder: Path,
    point: str,
    *options: object,
    skip: int = 0,
    act: Callable[[], None] = die,
    tells: str = "",
    ready: bool = True,
    loaded: int = 0,
    pause: float = 5.0,
) -> Iterator[tuple[Room, Rounds]]:
    """A room, and what makes its processes `act` at `point`, having come by `skip` times unharmed.

    They count from when a round is loaded; `loaded` are from the start. `ready`: wait until it is.
    `pause`: the longest one between attempts to start a worker.
    """
    (folder / "rounds").mkdir()
    rounds = Rounds(folder / "rounds")
    rounds.load(loaded)
    environment = {
        "FAULT_ROUNDS": str(rounds.folder),
        "FAULT_POINT": point,
        "FAULT_SKIP": str(skip),
        "FAULT_ACT": act.__name__,
        "FAULT_PAUSE": str(pause),
    }
    arguments = [sys.executable, "-m", "tests.integration.faulty_room", *map(str, options)]
    with started([*arguments, "127.0.0.1", "0"], environment=environment, tells=tells) as one:
        if ready:
            one.listen()
        yield one, rounds
        if one.process.poll() is None:
            one.stop()


if __name__ == "__mp_main__":
    install()
elif __name__ == "__main__":
    crew.LONGEST_PAUSE = float(os.environ["FAULT_PAUSE"])
    main()
