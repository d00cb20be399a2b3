"""The record of one driver: the events of its sessions, in the format of the history.

There may be 20,000 deliveries per second. So no object is created for a delivery, and `json` is
not called for an expected line.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from time import monotonic
from typing import TextIO

from harness.simulation.history import as_text, line_of
from harness.simulation.scenario.plan import Say, Session


class Recorder:
    def __init__(self, file: TextIO, names: Mapping[bytes, str]) -> None:
        """`names`: name of each message, in quotes, by the line that should be received for it."""
        self.start = 0.0
        """Start time of the run, in seconds of the monotonic clock."""
        self._file = file
        self._names = names
        self._said = self._heard = self._strange = 0
        self._lag = 0.0

    def now(self) -> float:
        return monotonic() - self.start

    def happened(self, number: int, what: str, **more: object) -> None:
        """Record an event of a session."""
        event = {"t": round(self.now(), 6), "who": number, "what": what, **more}
        self._file.write(line_of(event))

    def says(self, session: Session, say: Say, due: float) -> None:
        """Record that a session begins to send a message, and how late it is."""
        now = self.now()
        lag = now - due
        self._lag = max(self._lag, lag)
        self._said += 1
        event = {
            "t": round(now, 6),
            "who": session.number,
            "says": session.name_of(say),
            "due": round(due + sum(say.pauses), 6),
            "lag": round(lag, 6),
            "text": as_text(say.text),
        }
        if say.final:
            event["final"] = True
        self._file.write(line_of(event))

    def sent(self, number: int, message: str, gap: float) -> None:
        """Record that the kernel has accepted the whole message. gap: its longest pause (s)."""
        self._file.write(
            f'{{"t":{self.now():.6f},"who":{number},"sent":"{message}","gap":{gap:.6f}}}\n'
        )

    def hears(self, t: float, number: int, lines: Sequence[bytes]) -> list[str]:
        """Record the lines that a session has received; return the recorded text of each line."""
        heard = [self._names.get(line) or self._strange_line(line) for line in lines]
        self._heard += len(heard)
        self._file.write(f'{{"t":{t:.6f},"who":{number},"hears":[{",".join(heard)}]}}\n')
        return heard

    def _strange_line(self, line: bytes) -> str:
        self._strange += 1
        return json.dumps({"line": as_text(line)})

    def news(self) -> dict[str, float]:
        """Flush the file, and return the progress, with the largest lag (s) since the last call."""
        self._file.flush()
        lag, self._lag = self._lag, 0.0
        return {"said": self._said, "heard": self._heard, "strange": self._strange, "lag": lag}
