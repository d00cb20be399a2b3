"""A room whose processes fail at a place that a test chooses. `faulty_room.py` runs this program:

    python -m tests.integration.faults --workers 2 127.0.0.1 0

Environment variables name a place in the workers' code (see `POINTS`), and a folder. Each file in
the folder is a *round*, which makes one process fail: a process that reaches the place removes a
round, if there is one, and then fails. Only one process can remove a given round.

Each child calls the function `faulty` of this module instead of its own function, and imports this
module first. The room's own code does not know this module. A child imports only the modules that
contain the place, because each import delays the start of every worker.
"""

import os
import signal
from collections.abc import Callable
from itertools import count
from pkgutil import resolve_name
from typing import Any
from unittest.mock import patch

from chatroom.config.settings import Settings

WELCOME = f"{Settings().welcome}\n".encode()

WORD = b"unspeakable"
"""Text that triggers the point "word" in the process that reads it."""

Wrap = Callable[[Callable[[], None]], None]
"""Wraps a place in the code: from then on, the place calls a given function each time."""

# --- failures ------------------------------------------------------------------------------------


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def hang() -> None:
    """Stop this process (SIGSTOP)."""
    os.kill(os.getpid(), signal.SIGSTOP)


def spin() -> None:
    while True:
        pass


def fail() -> None:
    raise OSError("out of luck")


ACTS = {act.__name__: act for act in (die, hang, spin, fail)}


# --- places --------------------------------------------------------------------------------------

Fire = Callable[[], None]
"""Uses a round and fails, if there is a round for this process."""

Make = Callable[[Callable[..., Any], Fire], Callable[..., Any]]
"""Takes a function and a Fire; returns a replacement that fires before, during or after the
call."""


def replace(place: str, name: str, make: Make) -> Wrap:
    """Replace the attribute `name` of `place`, which is a module of chatroom or "module:class"."""

    def wrap(fire: Fire) -> None:
        owner = resolve_name(f"chatroom.{place}")
        setattr(owner, name, make(getattr(owner, name), fire))

    return wrap


def before(place: str, name: str, when: Callable[..., bool] = lambda *_: True) -> Wrap:
    """Fire before a call of `name`, if `when` returns True for the call's arguments."""

    def make(wrapped: Callable[..., Any], fire: Fire) -> Callable[..., Any]:
        def faulty(*arguments: Any, **options: Any) -> Any:
            if when(*arguments):
                fire()
            return wrapped(*arguments, **options)

        return faulty

    return replace(place, name, make)


def behind(place: str, name: str, when: Callable[..., bool] = lambda *_: True) -> Wrap:
    """Fire after a call of `name`, if `when` returns True for the call's result and arguments."""

    def make(wrapped: Callable[..., Any], fire: Fire) -> Callable[..., Any]:
        def faulty(*arguments: Any, **options: Any) -> Any:
            result = wrapped(*arguments, **options)
            if when(result, *arguments):
                fire()
            return result

        return faulty

    return replace(place, name, make)


def half_stored(store: Callable[..., Any], fire: Fire) -> Callable[..., Any]:
    """Fire when half of an append's text is stored, while the lock is held."""

    def faulty(ring: memoryview, start: int, data: bytes) -> None:
        half = len(data) // 2
        store(ring, start, data[:half])
        fire()
        store(ring, start + half, data[half:])

    return faulty


def unacknowledged(publish: Callable[..., Any], fire: Fire) -> Callable[..., Any]:
    """Fire after a message was sent to the engine, and before the engine's answer is received."""

    async def faulty(self: Any, *arguments: Any) -> Any:
        request = self._client.publish

        async def sent(*message: Any, **options: Any) -> None:
            await request(*message, **options)
            await self._client.flush()
            fire()

        with patch.object(self._client, "publish", sent):
            return await publish(self, *arguments)

    return faulty


def half_noted(note: Callable[..., Any], fire: Fire) -> Callable[..., Any]:
    """Fire when half of a checkpoint is stored."""

    class Half(tuple[int, ...]):
        __slots__ = ()

        def __getitem__(self, number: Any) -> Any:
            if number == 2:
                fire()
            return super().__getitem__(number)

    def faulty(self: Any, slot: int, checkpoint: tuple[int, ...]) -> None:
        note(self, slot, Half(checkpoint))

    return faulty


def half_written(append: Callable[..., Any], fire: Fire) -> Callable[..., Any]:
    """Fire when half of the data is written to the transcript."""

    def faulty(self: Any, data: bytes) -> None:
        os.write(self.fd, data[: len(data) // 2])
        fire()
        os.ftruncate(self.fd, os.fstat(self.fd).st_size - len(data) // 2)
        append(self, data)

    return faulty


def sending(what: str) -> Wrap:
    """Fire in or after a send to a member.

    `what`: "all": after a send if the kernel took all bytes; "part": after a send if the kernel
    took only some; "half": in the middle of a send; "greeting": in the middle of the welcome.
    """

    def make(begin: Callable[..., Any], fire: Fire) -> Callable[..., Any]:
        def faulty(self: Any, *arguments: Any) -> None:
            begin(self, *arguments)
            connection = self.socket

            def send(data: bytes) -> int:
                if (what == "half" and len(data) > 1) or (what == "greeting" and data == WELCOME):
                    half = len(data) // 2
                    taken = connection.send(data[:half])
                    fire()
                    return taken + connection.send(data[half:]) if taken == half else int(taken)
                taken = connection.send(data)
                if what == ("all" if taken == len(data) else "part"):
                    fire()
                return int(taken)

            self.send = send
            self.sendmsg = lambda views: send(b"".join(views))

        return faulty

    return replace(MEMBER, "__init__", make)


WORKER = "worker.loop:Worker"
INPUT = "worker.input:Input"
MEMBERSHIP = "worker.membership:Membership"
SHUTDOWN = "worker.shutdown:Shutdown"
MEMBER = "worker.member:Member"
DELIVERY = "worker.delivery:Delivery"
RECOVERY = "worker.recovery:Recovery"
FRAMER = "protocol.framing:Framer"
LOG = "log.ring:Log"
BATCH = "log.ring:Batch"
SLOTS = "log.slots:Slots"
DOORBELL = "system.doorbell:Doorbell"
FOLLOWER = "log.follower:Follower"
BRIDGE = "sidecars.cluster.bridge:Bridge"
ENGINE = "sidecars.cluster.engine:Engine"
RELAY = "sidecars.cluster.relay:Relay"
WRITER = "sidecars.transcript.process:TranscriptWriter"
FILE = "sidecars.transcript.file:TranscriptFile"

#: Places where a worker, or the transcript's process, may fail.
POINTS: dict[str, Wrap] = {
    "starting": before("worker.process", "_begin"),
    "turn": before(INPUT, "read"),
    # The worker has read input, and no other process has this input.
    "read": before(FRAMER, "feed"),
    "framed": behind(FRAMER, "feed"),
    "word": before(FRAMER, "feed", lambda _, data: WORD in data),
    "flushed": behind(FRAMER, "flush"),
    "closed": behind(FRAMER, "close"),
    # The worker appends. The worker holds the lock, except at "batch", "unattributed" and
    # "attributed".
    "batch": before(WORKER, "_append", lambda self: bool(self.input.batch)),
    "locked": before(LOG, "append"),
    "joined": behind(BATCH, "text"),
    "half stored": replace("log.ring", "_store", half_stored),
    "stored": before(LOG, "_put"),
    "put": behind(LOG, "_put"),
    "appended": behind(LOG, "append"),
    "unattributed": before(INPUT, "record_own"),
    "attributed": behind(INPUT, "record_own"),
    "full": behind(LOG, "wait_for_space"),
    # The worker delivers.
    "unrung": before(DOORBELL, "ring"),
    "rung": behind(DOORBELL, "ring"),
    "delivering": before(DELIVERY, "deliver"),
    "half sent": sending("half"),
    "sent": sending("all"),
    "partly sent": sending("part"),
    "delivered": behind(DELIVERY, "deliver"),
    "resuming": before(DELIVERY, "resume"),
    "resumed": behind(DELIVERY, "resume"),
    "published": behind(DELIVERY, "advance_locked"),
    # The worker makes checkpoints.
    "unnoted": before(MEMBERSHIP, "_note_all"),
    "half noted": replace(SLOTS, "note", half_noted),
    "noted": behind(SLOTS, "note"),
    "all noted": behind(MEMBERSHIP, "_note_all"),
    # The worker adopts members of a dead worker, or members that another worker has yielded.
    "handed": before(RECOVERY, "__init__"),
    "found": behind(RECOVERY, "state_of"),
    "ungreeted": before(MEMBERSHIP, "_greet"),
    "half greeted": sending("greeting"),
    "greeted": behind(MEMBERSHIP, "_greet"),
    "going on": before(MEMBERSHIP, "_take_over"),
    "gone on": behind(MEMBERSHIP, "_take_over"),
    "adopted": behind(MEMBERSHIP, "adopt"),
    "reading again": before(INPUT, "_reframe"),
    # The worker yields members to another worker.
    "yielding": before(MEMBERSHIP, "_yield_members"),
    "held": behind(DELIVERY, "pin"),
    "yielded": before(WORKER, "_tell", lambda _, record: "yielded" in record),
    "settled": before(DELIVERY, "unpin"),
    # A member leaves.
    "leaving": before(MEMBERSHIP, "remove"),
    "left": behind(MEMBERSHIP, "remove"),
    "parted": behind(MEMBER, "close"),
    "unreported": before(WORKER, "_tell", lambda _, record: "left" in record),
    "reported": behind(WORKER, "_tell", lambda _, __, record: "left" in record),
    # The room stops.
    "stopping": before(SHUTDOWN, "close_gracefully"),
    # The bridge of a cluster publishes messages, and appends to the room's log.
    "bridge starting": before(BRIDGE, "run"),
    "bridge unpublished": before(ENGINE, "publish"),
    "bridge unacknowledged": replace(ENGINE, "publish", unacknowledged),
    "bridge acknowledged": before(RELAY, "note_published"),
    "bridge noted": behind(RELAY, "note_published"),
    "bridge appending": before(RELAY, "append"),
    "bridge half stored": replace("log.ring", "_store", half_stored),
    "bridge appended": behind(RELAY, "append"),
    "bridge reconnected": behind(BRIDGE, "_connect"),
    # The transcript is written.
    "transcript looking": before(FOLLOWER, "read"),
    "transcript found": behind(FOLLOWER, "read"),
    "transcript unwritten": before(FILE, "append"),
    "transcript half written": replace(FILE, "append", half_written),
    "transcript written": behind(FILE, "append"),
    "transcript done": behind(FOLLOWER, "advance"),
    "transcript synced": behind(FILE, "sync"),
    "transcript mending": before(FILE, "repair"),
    "transcript opening": before(WRITER, "_open"),
    "transcript opened": behind(FILE, "open"),
    "transcript open": behind(WRITER, "_open"),
    "transcript rotating": before(FILE, "rotate"),
    "transcript rotated": behind(FILE, "rotate"),
}


# --- in the room's processes ---------------------------------------------------------------------


def faulty(target: str, *arguments: Any) -> None:
    """Wrap the place that the environment names; then call the function that `target` names."""
    install()
    resolve_name(target)(*arguments)


def install() -> None:
    """Wrap the place that the environment names."""
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
                continue  # Another process has removed this round.
            ACTS[act]()
            return

    POINTS[os.environ["FAULT_POINT"]](fire)


if __name__ == "__main__":
    from chatroom.cli.server import main
    from chatroom.supervisor import child
    from chatroom.system.spawn import spawn
    from tests.integration import faults

    def spawn_faulty(target: Callable[..., None], *arguments: Any) -> Any:
        return spawn(faults.faulty, f"{target.__module__}:{target.__name__}", *arguments)

    child.LONGEST_PAUSE = float(os.environ["FAULT_PAUSE"])
    vars(child)["spawn"] = spawn_faulty
    main()
