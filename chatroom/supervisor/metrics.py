"""The main process's part of the metrics: their listener, and the process that serves there."""

from collections.abc import Callable
from importlib.util import find_spec

from chatroom.errors import MetricsError
from chatroom.sidecars import metrics
from chatroom.supervisor.child import Child, RestartedChild
from chatroom.system.channel import Record
from chatroom.system.endpoint import Endpoint
from chatroom.system.event_loop import EventLoop
from chatroom.system.listening import endpoint, listen


class MetricsProcess:
    """The listener, from the start of the room, and the process."""

    def __init__(self, loop: EventLoop, at: Endpoint, totals: Callable[[], Record]) -> None:
        """Listen at an address that is resolved; `totals` returns what a scrape asks for.

        Raises ListenError, and MetricsError where what it needs is not installed.
        """
        if find_spec("prometheus_client") is None:
            raise MetricsError("--metrics needs prometheus-client: pip install 'chatroom[metrics]'")
        self._totals = totals
        self._listener = listen(at, 0)
        """It is kept: a scrape that comes while another process starts waits, and is served."""
        self.where = endpoint(self._listener)
        self._process = RestartedChild(
            loop, (metrics.main, (self._listener,)), self._answer, Child.ready, "metrics"
        )

    def start(self) -> None:
        """Start the process, and another whenever it ends, until `stop`."""
        self._process.start()

    def stop(self) -> None:
        """Leave no process: it holds nothing."""
        self._process.end()
        self._listener.close()

    def _answer(self, _record: Record, _descriptors: list[int]) -> None:
        self._process.tell(self._totals())
