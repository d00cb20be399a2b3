"""Signals as something to wait on: the handlers only enqueue, the session's loop acts."""

import signal
import socket
from collections.abc import Iterable
from types import FrameType, TracebackType

#: Those that end the client. Windows lacks some.
ENDING = [
    getattr(signal, name)
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT")
    if hasattr(signal, name)
]


def _enqueued(_number: int, _frame: FrameType | None) -> None:
    """Nothing is left to do: before this runs, the number is in the queue (`set_wakeup_fd`)."""


class Signals:
    """While entered, the signals `numbers` are read from here, and do nothing else."""

    def __init__(self, numbers: Iterable[int]) -> None:
        self._numbers = list(numbers)

    def __enter__(self) -> "Signals":
        self._queue, self._end = socket.socketpair()
        self._end.setblocking(False)
        signal.set_wakeup_fd(self._end.fileno(), warn_on_full_buffer=False)
        for number in self._numbers:
            # Who started this with a signal ignored (nohup, a shell's &) wants it to stay so.
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, _enqueued)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # The handlers stay: a second Ctrl-C must not break the end that the first one began.
        signal.set_wakeup_fd(-1)
        self._queue.close()
        self._end.close()

    def fileno(self) -> int:
        return self._queue.fileno()

    def take(self) -> bytes:
        """The numbers of the signals that came since the last call; waits for one."""
        return self._queue.recv(64)
