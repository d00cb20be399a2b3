"""Browser sessions that move from one gateway to another: the main process's part.

sidecars/web/claims.py shows the records. Gateways exchange them only through the main process. So
gateways that claim a session at the same time get it one after the other.

The id of a session begins with the number of the gateway where the session began. So the main
process needs to remember only the sessions that have moved.
"""

from collections.abc import Callable, Sequence

from chatroom.system.channel import Record, close_all

Tell = Callable[[int, Record, Sequence[int]], None]
"""Sends a record to a gateway, with descriptors, and closes them."""


class _Claim:
    """A session that a gateway has been asked to release."""

    def __init__(self, asked: int, waiting: list[int]) -> None:
        self.asked = asked
        """Gateway that was asked."""
        self.waiting = waiting
        """Gateways that claim the session, in the order of their claims."""


class SessionMoves:
    """Passes sessions from gateway to gateway. A gateway is identified by its number."""

    def __init__(self, gateways: int, tell: Tell) -> None:
        """`gateways`: their number."""
        self._gateways = gateways
        self._tell = tell
        self._claims: dict[str, _Claim] = {}
        self._owners: dict[str, int] = {}
        """Gateways of the sessions that have moved."""

    def claim(self, gateway: int, id: str) -> None:
        """Handle a gateway's claim. The gateway gets exactly one answer."""
        claim = self._claims.get(id)
        if claim is None:
            self._ask(id, [gateway])
        else:
            claim.waiting.append(gateway)

    def on_released(self, gateway: int, id: str, descriptors: Sequence[int]) -> None:
        """Pass on a session that a gateway has released."""
        claim = self._take(gateway, id)
        if claim is None:  # the gateways that claimed it have died
            self._owners.pop(id, None)
            close_all(descriptors)
            return
        first, *others = claim.waiting
        self._owners[id] = first
        self._tell(first, {"claimed": id}, descriptors)
        if others:
            self._ask(id, others)

    def on_refused(self, gateway: int, answer: Record, id: str) -> None:
        """Pass on a gateway's answer that it does not release a session."""
        claim = self._take(gateway, id)
        if claim is not None:
            for other in claim.waiting:
                self._tell(other, answer, ())

    def forget(self, gateway: int, id: str) -> None:
        """Note that a session which had moved to this gateway has ended."""
        if self._owners.get(id) == gateway:
            del self._owners[id]

    def on_start(self, gateway: int) -> None:
        """Note that a gateway has been started: it has no sessions, and claims none."""
        self._owners = {id: owner for id, owner in self._owners.items() if owner != gateway}
        for id, claim in list(self._claims.items()):
            claim.waiting = [other for other in claim.waiting if other != gateway]
            if claim.asked == gateway:
                self.on_refused(gateway, {"gone": id}, id)

    def _ask(self, id: str, waiting: list[int]) -> None:
        owner = self._owners.get(id, int(id.partition("-")[0]))
        if owner < self._gateways:
            self._claims[id] = _Claim(owner, waiting)
            self._tell(owner, {"release": id}, ())
        else:
            for gateway in waiting:
                self._tell(gateway, {"gone": id}, ())

    def _take(self, gateway: int, id: str) -> _Claim | None:
        """Remove and return the claim that a gateway has answered; None if nobody waits for it."""
        claim = self._claims.get(id)
        if claim is None or claim.asked != gateway:
            return None
        del self._claims[id]
        return claim if claim.waiting else None
