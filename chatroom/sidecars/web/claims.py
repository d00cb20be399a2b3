"""Sessions that move between gateways, because a browser that resumes may reach another gateway.

    the gateway that it reaches     the main process       the gateway that has the session
    claim (id)      ──────────────►  release (id)  ──────►
                                     ◄───────────────────  released (id), with the connection to
                    ◄──────────────  claimed (id)          the room and a file with the state

The last two records have the same descriptors. A gateway that does not have the session answers
`gone` instead, and a gateway that can't write the file answers `kept`. The main process passes on
these answers, too.

A record arrives as a whole or not at all. So at any time, a session is either in one gateway or in
one record. The session ends if this gateway dies, or if the gateway dies that should receive the
record: the kernel closes its connection to the room. supervisor/session_moves.py is the main
process's part.
"""

import asyncio
import contextlib
import json
import os
import re
import socket
from collections.abc import Sequence
from typing import Any, Protocol

from chatroom.sidecars.parent import Parent
from chatroom.sidecars.web.process import MAX_CLAIMS
from chatroom.sidecars.web.rooms import UnreachableError
from chatroom.system.channel import ChannelClosed, Record
from chatroom.system.memory import anonymous_file

CLAIM_WITHIN = 10.0
"""Timeout (s) for the gateway that has the session. It may hang until the watchdog kills it."""

_ID = re.compile(r"[0-9]{1,2}-[\w-]{22}", re.ASCII)

State = dict[str, Any]


def make_id(gateway: int, secret: str) -> str:
    """Return the id of a new session; it names the gateway where the session begins."""
    return f"{gateway}-{secret}"


class Sessions(Protocol):
    """The sessions of this gateway."""

    def state(self, id: str) -> State | None:
        """Return the state of a session, or None if it can't be resumed here."""

    def move_out(self, id: str) -> socket.socket:
        """Forget a session; return its connection to the room."""

    def move_in(self, id: str, room: socket.socket, state: State) -> None:
        """Continue a session that was in another gateway before."""


class Claims:
    """Claims sessions of other gateways, and releases sessions that other gateways claim."""

    def __init__(self, parent: Parent) -> None:
        self._parent = parent
        self._turn = asyncio.Semaphore(MAX_CLAIMS)
        self._asking: dict[str, asyncio.Task[bool]] = {}
        """Tasks of the unanswered claims, by id of the session. A task waits for its answer even
        after `claim` has given up."""
        self._answers: dict[str, asyncio.Future[bool]] = {}
        """Future answers to the claims that were sent, by id of the session."""

    async def claim(self, id: str) -> bool:
        """Move a session of another gateway to this one; return False if no gateway has it.

        Raises UnreachableError if the session can't be moved now.
        """
        if not _ID.fullmatch(id):
            return False
        task = self._asking.get(id)
        if task is None:
            task = self._asking[id] = asyncio.create_task(self._ask(id))
            task.add_done_callback(lambda _: self._asking.pop(id))
        try:
            async with asyncio.timeout(CLAIM_WITHIN):
                return await asyncio.shield(task)
        except TimeoutError:
            raise UnreachableError("the gateway of the session does not answer") from None

    async def _ask(self, id: str) -> bool:
        async with self._turn:
            answer: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
            self._answers[id] = answer
            try:
                self._parent.send({"claim": id})
                return await answer
            except ChannelClosed:
                raise UnreachableError("the main process has ended") from None
            finally:
                del self._answers[id]

    def on_record(self, record: Record, descriptors: list[int], sessions: Sessions) -> bool:
        """Handle a record of the main process; return False if it is about something else."""
        match record:
            case {"release": id}:
                self._release(id, sessions)
            case {"claimed": id}:
                room, file = descriptors
                sessions.move_in(id, socket.socket(fileno=room), _read(file))
                self._answers[id].set_result(True)
            case {"gone": id}:
                self._answers[id].set_result(False)
            case {"kept": id}:
                says = "the gateway of the session has no memory or descriptor left"
                self._answers[id].set_exception(UnreachableError(says))
            case _:
                return False
        return True

    def _release(self, id: str, sessions: Sessions) -> None:
        state = sessions.state(id)
        if state is None:
            self._tell({"gone": id})
            return
        try:
            file = _write(state)
        except OSError:
            self._tell({"kept": id})
            return
        room = sessions.move_out(id)
        self._tell({"released": id}, [room.detach(), file])

    def forget(self, id: str) -> None:
        """Note the end of a session that had moved in."""
        self._tell({"forget": id})

    def _tell(self, record: Record, descriptors: Sequence[int] = ()) -> None:
        with contextlib.suppress(ChannelClosed):  # the process notices it when it receives
            self._parent.send(record, descriptors, owned=True)


def _write(state: State) -> int:
    """Return a descriptor of a file that holds the state. Raises OSError."""
    data = json.dumps(state).encode()
    descriptor = anonymous_file("chatroom session", len(data))
    try:
        with open(descriptor, "wb", closefd=False) as file:
            file.write(data)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _read(descriptor: int) -> State:
    with open(descriptor, "rb") as file:
        file.seek(0)
        state: State = json.load(file)
    return state
