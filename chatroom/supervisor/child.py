"""A child process of the main process: started, told and heard, watched, reaped.

    Child           one process, from its start until it is reaped
    RestartedChild  a process that is to be there: where it ends, another is started

The workers are children whose seats the pool fills; the registry, the transcript and the metrics
are restarted ones.
"""

import contextlib
import logging
from collections.abc import Callable, Sequence
from multiprocessing import connection
from typing import Any

from chatroom.logs import Event
from chatroom.system.channel import Channel, ChannelClosed, Record
from chatroom.system.event_loop import READ, WRITE, EventLoop
from chatroom.system.spawn import spawn

READY_WITHIN = 30.0
"""Seconds in which a process has to be ready; after that it is taken for one that can't start."""

RETRY_AFTER = 0.05
"""Seconds after which a record is sent again that the system has refused. Its channel can be
written meanwhile, so that to wait for that would be no wait."""

FIRST_PAUSE = 0.1
LONGEST_PAUSE = 5.0
"""Seconds before a process is started again; twice as many with each failure in a row."""

STEADY_AFTER = 60.0
"""Seconds that a process has to live for its start to count as a success."""

logger = logging.getLogger(__name__)


def pause_after(failures: int) -> float:
    """Return the seconds before a process is started again, after so many failures in a row.

    None, one good start, is no reason for a pause.
    """
    if not failures:
        return 0.0
    # More doublings than these change nothing, and a thousand are more than a float takes.
    return min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(failures - 1, 30))


class Child:
    """One process and the channel to it.

    `on_record(record, descriptors)` is called with each of its records, and `on_exit()` when its
    process has been reaped, after its last record.
    """

    def __init__(
        self,
        loop: EventLoop,
        start: tuple[Callable[..., None], Any],
        on_record: Callable[[Record, list[int]], None],
        on_exit: Callable[[], None],
    ) -> None:
        """Start `target(*arguments, end)` of `start`, where `end` is a socket for a Channel.

        Raises OSError where the system has no process, memory or descriptor for it.
        """
        self._loop = loop
        self._on_record = on_record
        self._on_exit = on_exit
        target, arguments = start
        self.process, end = spawn(target, *arguments)
        self._channel = Channel(end)
        self.failure = ""
        """Reason why it can't start, or was killed; empty if none is known."""
        self._retry = loop.timer(self._flush)
        self._late = loop.timer(self._on_late)
        self._late.set_after(READY_WITHIN)
        loop.watch(self._channel.socket, self._receive)
        loop.watch(self.process.sentinel, self._reap)
        self._hears = True
        """Whether its channel is open; it ends a moment before the process."""

    def ready(self) -> None:
        """Note that it has started, so that it is not killed for being late."""
        self._late.cancel()

    def tell(self, record: Record, descriptors: Sequence[int] = ()) -> None:
        """Send a record, now or when its channel takes it; the descriptors stay open until then.

        To one that has ended nothing is sent: `on_exit` comes, or came.
        """
        if self._hears:
            with contextlib.suppress(ChannelClosed):
                self._channel.send(record, descriptors)
            self._watch_channel()

    def kill(self) -> None:
        """Kill it. There is no gentler way: no process of the room loses what matters by it."""
        self.process.kill()

    def end(self) -> None:
        """Kill it and wait until it is gone; `on_exit` is not called."""
        self.process.kill()
        self.process.join()
        self._close()

    def wait(self, seconds: float) -> None:
        """Do without the loop what it would do for this process: hear it, or reap it."""
        sources = [self.process.sentinel]
        if self._hears:
            sources.append(self._channel.fileno())
        found = connection.wait(sources, min(seconds, RETRY_AFTER))
        self._receive()
        if self.process.sentinel in found:
            self._reap()

    def _receive(self) -> None:
        try:
            for record, descriptors in self._channel.receive():
                self._on_record(record, descriptors)
        except ChannelClosed:
            self._close_channel()
        else:
            self._flush()

    def _flush(self) -> None:
        with contextlib.suppress(ChannelClosed):  # `_receive` finds it closed after its last record
            self._channel.flush()
        self._watch_channel()

    def _watch_channel(self) -> None:
        """Send what waits when its channel can be written; or in a while, if it was refused."""
        if self._channel.refused:
            self._retry.set_after(RETRY_AFTER)
        else:
            self._retry.cancel()
        waits = self._channel.backlog and not self._channel.refused
        self._loop.change(self._channel.socket, READ | WRITE if waits else READ)

    def _on_late(self) -> None:
        self.failure = f"it was not ready within {READY_WITHIN:g} s"
        self.kill()

    def _reap(self) -> None:
        self._receive()  # its last records
        self.process.join()
        self._close()
        self._on_exit()

    def _close(self) -> None:
        self._late.cancel()
        self._loop.forget(self.process.sentinel)
        self._close_channel()

    def _close_channel(self) -> None:
        self._hears = False
        self._retry.cancel()
        self._loop.forget(self._channel.socket)
        self._channel.close()


class RestartedChild:
    """A process that is to be there from `start` until `stop`, and the pauses between its starts.

    `on_start(child)` is called when one has been started, with what it has to be told first.
    """

    def __init__(
        self,
        loop: EventLoop,
        start: tuple[Callable[..., None], Any],
        on_record: Callable[[Record, list[int]], None],
        on_start: Callable[[Child], None],
        event: str,
        **fields: object,
    ) -> None:
        """`event` names the process in the log, where `fields` are told as well."""
        self._loop = loop
        self._start = start
        self._on_record = on_record
        self._on_start = on_start
        self._event = event
        self._fields = fields
        self.child: Child | None = None
        """The process that is there; None between two of them."""
        self.done = False
        """Whether it has ended by itself, and well, after `stop`."""
        self._failures = 0
        """Processes in a row that have ended early, without having `succeeded`."""
        self._started_at = 0.0
        self._stopped = False
        self._start_timer = loop.timer(self.start)

    def start(self) -> None:
        """Start the process; where that fails, it is tried again later."""
        self._start_timer.cancel()
        self._started_at = self._loop.now()
        try:
            self.child = Child(self._loop, self._start, self._on_record, self._on_exit)
        except OSError as error:
            self._try_again("failed", "can't be started", error=error.strerror)
        else:
            self._on_start(self.child)

    def succeeded(self) -> None:
        """Note that the process does what it is there for: the next pause is the first again."""
        self._failures = 0

    def tell(self, record: Record, descriptors: Sequence[int] = ()) -> None:
        """Send a record to the process, if there is one."""
        if self.child is not None:
            self.child.tell(record, descriptors)

    def stop(self) -> None:
        """Start no other one, but by `start`; the one that is there goes on until `end`."""
        self._stopped = True
        self._start_timer.cancel()

    def end(self) -> None:
        """Leave no process."""
        self.stop()
        if self.child is not None:
            self.child.end()
            self.child = None

    def _on_exit(self) -> None:
        assert self.child is not None
        exitcode, self.child = self.child.process.exitcode, None
        self.done = self._stopped and exitcode == 0
        if not self.done:
            self._try_again("died", "has ended", exit=exitcode)

    def _try_again(self, event: str, says: str, **fields: object) -> None:
        if self._loop.now() - self._started_at >= STEADY_AFTER:
            self._failures = 0
        if not self._stopped:
            fields["again_in"] = pause_after(self._failures)
            self._start_timer.set_after(pause_after(self._failures))
            self._failures += 1
            says += "; another is started"
        event = f"{self._event}-{event}"
        logger.warning(Event(event, f"its process {says}", **self._fields, **fields))
