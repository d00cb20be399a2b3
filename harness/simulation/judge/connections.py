"""Checks of connections: the server must accept, welcome, keep and close them."""

from __future__ import annotations

import errno
import os

from harness.simulation.judge.facts import CUTS, Facts, Session
from harness.simulation.judge.judgement import (
    DISCONNECTED,
    REFUSED,
    UNBOUNDED,
    UNCLEANED,
    UNWELCOMED,
    Judgement,
)

CLEANED_WITHIN = 2.0
"""Seconds within which the server must close a half-closed connection (LEAVE-4)."""

GREETED_WITHIN = 5.0
"""Seconds within which an accepted client must receive the welcome."""

DIES_WITHIN = 2.0
"""Seconds before the end of an incomplete run. In this time, the target may already have been
ending, so disconnections are not violations."""

EFFECT_WITHIN = 5.0
"""Seconds after a fault of the target within which a disconnection is attributed to it."""

RESET_WITHIN = 0.1
"""Seconds after a client's reset within which a disconnection of another client may be an effect of
the reset."""

KERNELS = 12 << 20
"""Bytes that kernels may buffer for a slow reader, in addition to the server's limit (LOAD-2)."""

SLOW = ("slow", "stall")
"""Faults of a link that allow the server to disconnect the client (LOAD-2)."""

OURS = ("the harness itself", os.strerror(errno.EADDRNOTAVAIL), os.strerror(errno.EADDRINUSE))
"""Beginnings of the reason for a refusal whose cause is this machine, not the target."""


class Connections:
    def __init__(self, facts: Facts, lag_limit: int, judgement: Judgement) -> None:
        """`lag_limit`: maximum lag (bytes) of a member that stays connected; 0 if unknown."""
        self._facts = facts
        self._lag_limit = lag_limit
        self._judgement = judgement
        self._resets = [
            session.leaves
            for session in facts.sessions.values()
            if session.how == "reset" and session.leaves is not None
        ]
        """Times at which clients reset their connections."""

    def check_arrivals(self) -> None:
        """Check that each client is accepted (JOIN-1) and receives the welcome first (WELCOME-1).

        While the target restarts or ends, it need not accept clients.
        """
        judgement = self._judgement
        for t, session in self._facts.unwelcomed:
            says = f"{session} received other text before the welcome"
            judgement.add(UNWELCOMED, t, session, says, "other text came before the welcome")
        for t, session, why in self._facts.refused:
            if why.startswith(OURS):
                judgement.cannot_judge = (
                    judgement.cannot_judge or f"{session} could not connect: {why}"
                )
            elif not (
                session.link is not None
                or self._facts.is_restarting(session.connects, t)
                or self._may_be_ending(t)
            ):
                says = f"{session} was refused: {why}"
                judgement.add(REFUSED, t, session, says, "the server accepted no connection")

    def _may_be_ending(self, t: float) -> bool:
        """Return whether the target may have been ending at the time `t`.

        This is possible near the end of an incomplete run, and after the last sign of the target:
        on a busy machine, the harness may notice the target's end late.
        """
        facts = self._facts
        return not facts.complete and (t > facts.end - DIES_WITHIN or t >= facts.last_sign)

    def check(self, session: Session) -> None:
        self._check_end(session)
        self._check_greeted(session)
        self._check_cleaned(session)
        self._check_bounded(session)

    def _check_end(self, session: Session) -> None:
        """Check that the session was not disconnected without a reason (LEAVE-1, LOAD-4)."""
        facts, ended = self._facts, session.ended
        if (
            ended is None
            or session.connected is None
            or session.leaves is not None
            or session.link in (*CUTS, *SLOW)
            or facts.is_restarting(session.connects, ended)
            or self._may_be_ending(ended)
        ):
            return
        after, cause, clause = "", "the server closed or reset the connection", ""
        faults = facts.survivable_faults
        if recent := [(t, fault) for t, fault in faults if ended - EFFECT_WITHIN <= t <= ended]:
            t, fault = recent[-1]
            after, clause = f", {ended - t:.3f} s after {fault}", "LOAD-4"
            cause += f" after {fault} at {t:.1f} s"
        elif any(ended - RESET_WITHIN <= t <= ended for t in self._resets):
            cause += " just after another client had reset its connection"
        self._judgement.add(
            DISCONNECTED, ended, session, f"{session} was disconnected{after}", cause, clause=clause
        )

    def _check_greeted(self, session: Session) -> None:
        if (
            self._facts.complete
            and session.stays
            and session.welcomed is None
            and session.connected is not None
            and session.connected < self._facts.end - GREETED_WITHIN
        ):
            says = f"{session} was accepted, but received no welcome"
            self._judgement.add(UNWELCOMED, session.connected, session, says, "no welcome came")

    def _check_cleaned(self, session: Session) -> None:
        if (
            self._facts.complete
            and session.how == "half-close"
            and session.link is None
            and session.ended is None
            and session.leaves is not None
            and session.leaves < self._facts.end - CLEANED_WITHIN
        ):
            says = f"{session} closed its side, but the server did not close its own side"
            cause = "the server did not close its side after a client had closed its own"
            self._judgement.add(UNCLEANED, session.leaves, session, says, cause)

    def _check_bounded(self, session: Session) -> None:
        if (
            not self._lag_limit
            or session.link != "stall"
            or session.stalled is None
            or session.calmed
            or session.ended is not None
            or session.leaves is not None
        ):
            return
        owed = sum(
            len(message.text)
            for message in self._facts.messages
            if message.t > session.stalled
            and message.sent is not None
            and message.sender != session.number
        )
        if owed > self._lag_limit + KERNELS:
            says = f"{session} lags by {owed} bytes, and was not disconnected"
            cause = "a client that does not read was not disconnected"
            self._judgement.add(UNBOUNDED, self._facts.end, session, says, cause)
