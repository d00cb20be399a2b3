"""Child processes of the main process: start them, exchange records with them, reap them.

    Child           one process, from its start until it is reaped
    RestartedChild  a process that is started again whenever it ends

The pool makes a Child for each worker, and RegistryProcess makes a Child for the registry's
process. The other processes are RestartedChildren: transcript, metrics, gateway and bridge.
"""

import contextlib
import logging
from collections.abc import Callable, Sequence
from typing import Any

from chatroom.logs import Event
from chatroom.system.channel import Channel, ChannelClosed, Record, close_all
from chatroom.system.event_loop import READ, WRITE, EventLoop
from chatroom.system.poller import Source, wait
from chatroom.system.spawn import spawn

READY_WITHIN = 30.0
"""Timeout (s) for a process to become ready; a process that takes longer is killed."""

RETRY_AFTER = 0.05
"""Seconds before a record that the system refused is sent again. A timer is needed, because the
channel stays writable: waiting until it is writable would be a busy loop."""

FIRST_PAUSE = 0.1
LONGEST_PAUSE = 5.0
"""Bounds (s) of the backoff before a process is started again. The backoff doubles with each
failure."""

STEADY_AFTER = 60.0
"""Seconds that a process must live for its start to count as a success."""

logger = logging.getLogger(__name__)


def pause_after(failures: int) -> float:
    """Return the backoff (s) before the next start, after `failures` in a row; 0.0 after none."""
    if not failures:
        return 0.0
    # 30 doublings exceed the limit; a thousand would overflow a float.
    return min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(failures - 1, 30))


class Child:
    """One process and the channel to it.

    `on_record(record, descriptors)` is called with each record that the process sends.
    `on_exit()` is called when the process has been reaped, after its last record.
    """

    def __init__(
        self,
        loop: EventLoop,
        start: tuple[Callable[..., None], Any],
        on_record: Callable[[Record, list[int]], None],
        on_exit: Callable[[], None],
    ) -> None:
        """Spawn a process that calls `target(*arguments, end)`; `end` is a socket for a Channel.

        `start`: the target and its arguments. Raises OSError if the system has no process, memory
        or descriptor left.
        """
        self._loop = loop
        self._on_record = on_record
        self._on_exit = on_exit
        target, arguments = start
        self._process, self._sentinel, end = spawn(target, *arguments)
        self.pid = self._process.pid
        self.exitcode: int | None = None
        """Exit code of the process, once it has ended."""
        self._channel = Channel(end)
        self.failure = ""
        """Reason why the process failed to start, or was killed; empty if unknown."""
        self._retry = loop.timer(self._flush)
        self._late = loop.timer(self._on_late)
        self._late.set_after(READY_WITHIN)
        loop.watch(self._channel.socket, self._receive)
        loop.watch(self._sentinel, self._reap)
        self._channel_open = True
        """True while the channel is open. The channel may close shortly before the process is
        reaped."""

    def ready(self) -> None:
        """Note that the process has started: cancel its READY_WITHIN timeout."""
        self._late.cancel()

    def tell(self, record: Record, descriptors: Sequence[int] = (), owned: bool = False) -> None:
        """Send a record as soon as the channel accepts it; see Channel.send.

        If the process has ended, the record is dropped and `owned` descriptors are closed.
        `on_exit` reports the end.
        """
        if self._channel_open:
            with contextlib.suppress(ChannelClosed):
                self._channel.send(record, descriptors, owned)
            self._watch_channel()
        elif owned:
            close_all(descriptors)

    def kill(self) -> None:
        """Send SIGKILL to the process. Each process of the room may be killed at any moment."""
        self._process.kill()

    def end(self) -> None:
        """Kill the process and wait for its end; `on_exit` is not called."""
        self._process.kill()
        self._close()

    def wait(self, seconds: float) -> None:
        """Receive from the process, or reap it, without the event loop.

        Waits up to `seconds`, but no longer than RETRY_AFTER: call it in a loop.
        """
        sources: list[Source] = [self._sentinel]
        if self._channel_open:
            sources.append(self._channel.socket)
        found = wait(sources, min(seconds, RETRY_AFTER))
        self._receive()
        if self._sentinel in found:
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
        with contextlib.suppress(ChannelClosed):  # `_receive` handles this after the last record
            self._channel.flush()
        self._watch_channel()

    def _watch_channel(self) -> None:
        """Send the backlog when the channel is writable. After a refusal, send it when the timer is
        due."""
        if self._channel.refused:
            self._retry.set_after(RETRY_AFTER)
        else:
            self._retry.cancel()
        waits = self._channel.backlog and not self._channel.refused
        self._loop.change(self._channel.socket, READ | WRITE if waits else READ)

    def _on_late(self) -> None:
        self.failure = f"not ready within {READY_WITHIN:g} s"
        self.kill()

    def _reap(self) -> None:
        self._receive()  # its last records
        self._close()
        self._on_exit()

    def _close(self) -> None:
        self.exitcode = self._process.wait()
        self._late.cancel()
        self._loop.forget(self._sentinel)
        self._sentinel.close()
        self._close_channel()

    def _close_channel(self) -> None:
        self._channel_open = False
        self._retry.cancel()
        self._loop.forget(self._channel.socket)
        self._channel.close()


class RestartedChild:
    """A process that is kept running from `start` until `stop`, with backoff between its starts.

    `on_start(child)` is called after each start, to send the first records.
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
        """`event`: prefix of the names of the process's events; `fields`: added to each event."""
        self._loop = loop
        self._start = start
        self._on_record = on_record
        self._on_start = on_start
        self._event = event
        self._fields = fields
        self.child: Child | None = None
        """Running process; None while there is none."""
        self.done = False
        """True once the process has exited after `stop`, with exit code 0."""
        self._failures = 0
        """Failures in a row: the process did not start, or it ended within STEADY_AFTER and before
        `succeeded` was called."""
        self._started_at = 0.0
        self._stopped = False
        self._start_timer = loop.timer(self.start)

    def start(self) -> None:
        """Start the process; if that fails, try again after the backoff."""
        self._start_timer.cancel()
        self._started_at = self._loop.now()
        try:
            self.child = Child(self._loop, self._start, self._on_record, self._on_exit)
        except OSError as error:
            self._try_again("failed", "could not be started", error=error.strerror)
        else:
            self._on_start(self.child)

    def succeeded(self) -> None:
        """Reset the backoff, because the process has done some work."""
        self._failures = 0

    def tell(self, record: Record, descriptors: Sequence[int] = (), owned: bool = False) -> None:
        """Send a record to the process, if one is running; see Child.tell."""
        if self.child is not None:
            self.child.tell(record, descriptors, owned)
        elif owned:
            close_all(descriptors)

    def replace_stuck(self) -> None:
        """Kill a running process, because it makes no progress. Another process replaces it."""
        if self.child is not None:
            says = "the process makes no progress; it is replaced"
            logger.warning(Event(f"{self._event}-stuck", says, **self._fields))
            self.child.kill()

    def stop(self) -> None:
        """Stop restarting the process. A running process continues, and `start` still works."""
        self._stopped = True
        self._start_timer.cancel()

    def end(self) -> None:
        """Stop, and kill a running process."""
        self.stop()
        if self.child is not None:
            self.child.end()
            self.child = None

    def _on_exit(self) -> None:
        assert self.child is not None
        exitcode, self.child = self.child.exitcode, None
        self.done = self._stopped and exitcode == 0
        if not self.done:
            self._try_again("died", "ended", exit=exitcode)

    def _try_again(self, event: str, says: str, **fields: object) -> None:
        if self._loop.now() - self._started_at >= STEADY_AFTER:
            self._failures = 0
        if not self._stopped:
            fields["again_in"] = pause_after(self._failures)
            self._start_timer.set_after(pause_after(self._failures))
            self._failures += 1
            says += "; it is started again"
        event = f"{self._event}-{event}"
        logger.warning(Event(event, f"the process {says}", **self._fields, **fields))
