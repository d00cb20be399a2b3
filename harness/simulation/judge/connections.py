"""Checks of connections: accepted, welcomed, kept and closed."""

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
"""Seconds until a half-closed connection must be closed (LEAVE-4)."""

GREETED_WITHIN = 5.0
"""Seconds until an accepted client must have received the welcome."""

DIES_WITHIN = 2.0
"""Seconds before the end of an incomplete run in which the target may have been dying."""

FELT_WITHIN = 5.0
"""Seconds after a fault of the target in which a disconnection counts as its effect."""

KERNELS = 12 << 20
"""Bytes that kernels may buffer for a slow reader, besides the server's limit (LOAD-2)."""

SLOW = ("slow", "stall")
"""Faults of a link for which a server may disconnect a client (LOAD-2)."""

OURS = ("the harness itself", os.strerror(errno.EADDRNOTAVAIL), os.strerror(errno.EADDRINUSE))
"""Beginnings of a refusal's reason that mean a fault of this machine, not of the target."""


class Connections:
    def __init__(self, facts: Facts, lag_limit: int, judgement: Judgement) -> None:
        """`lag_limit`: bytes that a member may lag; 0: unknown."""
        self._facts = facts
        self._lag_limit = lag_limit
        self._judgement = judgement

    def check_arrivals(self) -> None:
        """Check that each client is accepted (JOIN-1), except during a restart of the target, and
        gets the welcome first (WELCOME-1)."""
        judgement = self._judgement
        for t, session in self._facts.unwelcomed:
            says = f"{session} heard something else before the welcome"
            judgement.violated(UNWELCOMED, t, session, says)
        for t, session, why in self._facts.refused:
            if why.startswith(OURS):
                judgement.cannot_judge = (
                    judgement.cannot_judge or f"{session} could not connect: {why}"
                )
            elif session.link is None and not self._facts.is_restarting(session.connects, t):
                judgement.violated(REFUSED, t, session, f"{session} was refused: {why}")

    def check(self, session: Session) -> None:
        self._check_end(session)
        self._check_greeted(session)
        self._check_cleaned(session)
        self._check_bounded(session)

    def _check_end(self, session: Session) -> None:
        """Check that nobody is disconnected without a reason (LEAVE-1, LOAD-4)."""
        facts, ended = self._facts, session.ended
        if (
            ended is None
            or session.connected is None
            or session.leaves is not None
            or session.link in (*CUTS, *SLOW)
            or facts.is_restarting(session.connects, ended)
            or (not facts.complete and ended > facts.end - DIES_WITHIN)
        ):
            return
        felt = [t for t in facts.kills if ended - FELT_WITHIN <= t <= ended]
        after = f", {ended - felt[-1]:.3f} s after a fault of the target" if felt else ""
        says, clause = f"{session} was disconnected{after}", "LOAD-4" if felt else ""
        self._judgement.violated(DISCONNECTED, ended, session, says, clause=clause)

    def _check_greeted(self, session: Session) -> None:
        if (
            self._facts.complete
            and session.stays
            and session.welcomed is None
            and session.connected is not None
            and session.connected < self._facts.end - GREETED_WITHIN
        ):
            says = f"{session} was accepted, but got no welcome"
            self._judgement.violated(UNWELCOMED, session.connected, session, says)

    def _check_cleaned(self, session: Session) -> None:
        if (
            self._facts.complete
            and session.how == "half-close"
            and session.link is None
            and session.ended is None
            and session.leaves is not None
            and session.leaves < self._facts.end - CLEANED_WITHIN
        ):
            says = f"{session} closed its side, but the server did not close its own"
            self._judgement.violated(UNCLEANED, session.leaves, session, says)

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
            self._judgement.violated(UNBOUNDED, self._facts.end, session, says)
