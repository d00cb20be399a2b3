"""The bridge: the process that connects this node's room with the stream.

Four tasks run in one event loop (asyncio, which nats-py needs):

    publish   uplink ─► stream; one publication at a time
    follow    stream ─► room's log; one publication at a time
    watch     tells the main process, and the members, if the engine is out of reach
    answer    requests for all nodes (requests.py)

A bridge has no state that its successor needs: see __init__.py.
"""

import asyncio
import contextlib
from collections.abc import Callable
from time import monotonic

from chatroom.log.ring import Log
from chatroom.log.uplink import Uplink
from chatroom.sidecars.cluster.engine import (
    RETRY_AFTER,
    UNREACHABLE,
    Engine,
    EngineError,
    Refused,
    connect,
)
from chatroom.sidecars.cluster.process import Node, Position
from chatroom.sidecars.cluster.relay import Relay
from chatroom.sidecars.cluster.requests import Responder
from chatroom.sidecars.cluster.rounds import Ringer, Round, gather
from chatroom.sidecars.cluster.stream_message import Publication, PublicationError
from chatroom.sidecars.parent import Parent
from chatroom.system.channel import PARENT, Channel, ChannelClosed, Record
from chatroom.system.doorbell import Doorbell

OUT_OF_REACH_AFTER = 2.0
"""Seconds without a connection, or without an answer to a publication, after which the engine
counts as out of reach."""
REPORT_EVERY = 0.5
"""Seconds between two reports to the main process, and between two counts of progress."""
SPACE_WITHIN = 0.05
"""Seconds after which an append is tried again, even if the doorbell has not rung."""
RETURNS_WITHIN = 1.0
"""Maximum time (s) for which a bridge waits until its last publication has returned from the
stream, before it sends the next one."""
LOST_AFTER = 10.0
"""Seconds after which an accepted publication that is missing in the stream counts as lost. A NATS
server that is cut off from the other servers may give old answers for a while."""

DISCONNECTED_NOTICE = "Messages wait: they can't be passed on to the other servers of this room"
RECONNECTED_NOTICE = "Messages are passed on to the other servers of this room again"
"""Lines to the members. They are also true if the engine can be reached, but refuses messages."""


class Bridge:
    """A bridge; call `run` once.

    `after`: place in the stream at which this room began; None: it begins now. `told`: True if an
    earlier bridge has told the members that messages wait.
    """

    def __init__(
        self,
        node: Node,
        uplink: Uplink,
        log: Log,
        doorbells: list[Doorbell],
        channel: Channel,
        after: Position | None,
        told: bool = False,
    ) -> None:
        self._node = node
        self._uplink = uplink
        self._log = log
        self._doorbells = doorbells
        self._channel = channel
        self._parent = Parent(channel)
        self._after = after
        self._engine: Engine | None = None
        """The engine; None before the first connection."""
        self._bell = asyncio.Event()
        """Set when the uplink may have grown, or the room's log may have space."""
        long_ago = monotonic() - OUT_OF_REACH_AFTER
        self._disconnected_at: float | None = long_ago if told else None
        """Time (s, monotonic) at which the connection was lost; None while there is a connection.
        If `told`, the engine counts as out of reach until this bridge has published what waits."""
        self._unanswered_at: float | None = long_ago if told else None
        """Time (s, monotonic) of the first request of `_publish` without an answer; None if the
        last publication was answered, or nothing waits."""
        self._reason = ""
        """Last reason why the engine was out of reach; "" if it is unknown."""
        self._round_trip = 0.0
        """Seconds that the last publication took."""
        self._told = told
        """True if the last notice to the members was DISCONNECTED_NOTICE."""
        self._drain = asyncio.Event()
        """Set when the room stops, and its workers append nothing more."""
        self._awaited = 0
        self._has_returned = asyncio.Event()
        """Set when the publication with the sequence number `_awaited` is in the room's log."""
        self._last: int | None = None
        """Sequence number of this node's last publication; None if it is unknown."""

    async def run(self) -> None:
        """Run until the main process ends. Raises EngineError, ChannelClosed."""
        loop = asyncio.get_running_loop()
        closed: asyncio.Future[None] = loop.create_future()
        loop.add_reader(self._channel.fileno(), self._on_channel, closed)
        loop.add_reader(PARENT, self._close, closed)
        doorbell = self._doorbells[self._uplink.bridge]

        def ring() -> None:
            doorbell.clear()
            self._bell.set()

        loop.add_reader(doorbell.fileno(), ring)
        engine = None
        if self._after is None:
            engine, self._after = await self._connect()
        relay = Relay(
            self._node.number, self._uplink, self._log, self._doorbells, self._after.sequence
        )
        relay.ring()  # an earlier bridge may have died between an append and the ring
        self._tell({"ready": self._after})
        tasks = [closed, asyncio.ensure_future(self._watch(relay))]
        tasks.append(asyncio.ensure_future(self._serve(engine, relay)))
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            if task.done():
                task.result()  # raise its error

    async def _connect(self) -> tuple[Engine, Position]:
        """Return the engine, and the end of the stream. Raises EngineError."""
        node = self._node
        client = await connect(
            node.url,
            node.credentials,
            f"chatroom {node.name}",
            self._on_disconnected,
            self._on_reconnected,
            self._on_error,
        )
        engine = Engine(client, node.url, f"{node.number:016x}")
        try:
            end = await engine.open_stream(node.replicas)
            await Responder(client, node).start()
            await engine.check_permissions()
        except BaseException:
            await engine.close()
            raise
        return engine, end

    async def _serve(self, engine: Engine | None, relay: Relay) -> None:
        """Pass messages in both directions. If there is no engine yet, connect first."""
        while engine is None:
            self._disconnected_at = self._disconnected_at or monotonic()
            try:
                engine, _ = await self._connect()
            except EngineError:
                await asyncio.sleep(RETRY_AFTER)
        self._disconnected_at = None
        self._reason = ""
        self._engine = engine
        await asyncio.gather(self._publish(engine, relay), self._follow(engine, relay))

    # --- the main process ----------------------------------------------------

    def _on_channel(self, closed: asyncio.Future[None]) -> None:
        try:
            for record, _ in self._channel.receive():
                if record.get("drain"):
                    self._drain.set()
                    self._bell.set()
        except ChannelClosed:
            self._close(closed)

    def _close(self, closed: asyncio.Future[None]) -> None:
        loop = asyncio.get_running_loop()
        loop.remove_reader(PARENT)
        loop.remove_reader(self._channel.fileno())
        if not closed.done():
            closed.set_exception(ChannelClosed())

    def _tell(self, record: Record) -> None:
        with contextlib.suppress(ChannelClosed):  # the event loop notices it
            self._parent.send(record)

    # --- uplink ─► stream ----------------------------------------------------

    async def _publish(self, engine: Engine, relay: Relay) -> None:
        last, position = await self._resume(engine, relay)
        members = Round()
        while True:
            self._last = last
            self._bell.clear()
            await gather(members.size, self._waiting, self._bell, self._drain)
            publication = relay.next_publication(position)
            if publication is None:
                self._unanswered_at = None
                await self._bell.wait()
                continue
            begin = monotonic()
            self._unanswered_at = self._unanswered_at or begin
            try:
                last = await engine.publish(publication, last)
            except (Refused, *UNREACHABLE) as error:
                self._reason = engine.why_unanswered(error) or self._reason
                await asyncio.sleep(RETRY_AFTER)
                last, position = await self._resume(engine, relay)
                if position >= publication.position:  # only the answer was lost
                    self._unanswered_at = None
                continue
            self._round_trip = monotonic() - begin
            self._unanswered_at = None
            self._reason = ""
            position = publication.position
            relay.note_published(position)
            members.note(publication.senders, publication)
            self._last = last
            await self._returned(relay, last)

    def _waiting(self) -> int:
        """Return the number of messages that wait to be published."""
        messages, _ = self._uplink.unpublished
        return messages

    async def _returned(self, relay: Relay, sequence: int) -> None:
        """Wait until a publication of this node is in the room's log, RETURNS_WITHIN at most.

        So a node publishes no faster than it reads the stream. If the engine or the other nodes are
        busy, its publications become larger and fewer.
        """
        self._awaited = sequence
        self._has_returned.clear()
        if relay.sequence < sequence:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(RETURNS_WITHIN):
                    await self._has_returned.wait()

    async def _resume(self, engine: Engine, relay: Relay) -> tuple[int, int]:
        """Return the sequence number of this node's last publication, and its position.

        Both are read from the stream. If the stream lacks a publication that it had accepted, the
        engine has lost data, for example in a power failure.
        """
        lost_at = monotonic() + LOST_AFTER
        self._unanswered_at = self._unanswered_at or monotonic()
        while True:
            try:
                last, publication = await engine.last_publication()
            except UNREACHABLE as error:
                self._reason = engine.why_unanswered(error) or self._reason
                await asyncio.sleep(RETRY_AFTER)
                continue
            published = self._uplink.published
            with self._uplink:
                head = self._uplink.head
            if publication is None or publication.position > head:  # another client's
                position = published
            else:
                position = publication.position
            if position >= published:
                relay.note_published(position)
                return last, position
            if monotonic() >= lost_at:
                assert publication is not None
                number = self._uplink.messages(published) - publication.number
                self._tell({"lost": number})
                return last, published
            await asyncio.sleep(RETRY_AFTER)

    # --- stream ─► room's log ------------------------------------------------

    async def _follow(self, engine: Engine, relay: Relay) -> None:
        ringer = Ringer(relay.ring)
        async for sequence, _, data in engine.messages(Position(relay.sequence)):
            due = relay.sequence + 1
            if sequence > due:
                self._tell({"missed": sequence - due})
            elif sequence < due:
                self._tell({"rewound": due - sequence})
            try:
                publication = Publication.decode(data)
            except PublicationError as error:
                self._tell({"unreadable": str(error)})
                relay.sequence = sequence
                continue
            if not relay.append(publication, sequence):
                await self._space(lambda: relay.append(publication, sequence))  # noqa: B023
            ringer.note(publication)
            if sequence >= self._awaited:
                self._has_returned.set()

    async def _space(self, append: Callable[[], bool]) -> None:
        """Wait for space in the room's log: repeat an append until it succeeds."""
        while not append():
            # The rings that this clears came before the append, so they announce nothing new.
            # `_publish` does not need them either: it reads the uplink before it waits.
            self._bell.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(SPACE_WITHIN):
                    await self._bell.wait()

    # --- the engine's state --------------------------------------------------

    async def _on_disconnected(self) -> None:
        self._disconnected_at = self._disconnected_at or monotonic()

    async def _on_reconnected(self) -> None:
        self._disconnected_at = None
        self._reason = ""
        if self._engine is not None:
            self._engine.reconnected()

    def _on_error(self, reason: str) -> None:
        self._reason = reason or self._reason

    def _check_connection(self) -> None:
        """Raise EngineError if the connection is closed. Then another bridge replaces this one."""
        reason = None if self._engine is None else self._engine.why_closed()
        if reason is not None:
            raise EngineError(reason)

    def _is_out_of_reach(self) -> bool:
        since = [at for at in (self._disconnected_at, self._unanswered_at) if at is not None]
        return bool(since) and monotonic() - min(since) >= OUT_OF_REACH_AFTER

    async def _watch(self, relay: Relay) -> None:
        """Report the engine's state and this bridge's progress. If the state changes, tell the
        members.

        Raises EngineError if the connection is closed.
        """
        reported: Record = {}
        drained = False
        while True:
            self._uplink.turn(self._uplink.bridge)
            self._check_connection()
            out_of_reach = self._is_out_of_reach()
            if out_of_reach != self._told and relay.say(
                DISCONNECTED_NOTICE if out_of_reach else RECONNECTED_NOTICE
            ):
                self._told = out_of_reach
            state = {
                "up": not out_of_reach,
                "reason": self._reason if out_of_reach else "",
                "round_trip": round(self._round_trip, 6),
            }
            if state != reported:
                reported = state
                self._tell({"engine": state})
            if drained:
                await asyncio.sleep(REPORT_EVERY)
                continue
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(REPORT_EVERY):
                    await self._drain.wait()
            if self._drain.is_set():
                drained = await self._drained(relay)

    async def _drained(self, relay: Relay) -> bool:
        """Wait until all messages of the uplink are in the room's log; report this, and return
        True."""
        while (
            self._uplink.published < self._uplink.head
            or self._last is None
            or relay.sequence < self._last
        ):
            self._uplink.turn(self._uplink.bridge)
            await asyncio.sleep(0.005)
        self._tell({"drained": True})
        return True
