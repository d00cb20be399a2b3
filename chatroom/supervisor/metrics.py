"""The main process's part of the metrics: the listener, and the process that uses the listener."""

from collections.abc import Callable, Sequence
from importlib.util import find_spec

from chatroom.errors import MetricsError
from chatroom.sidecars import metrics
from chatroom.supervisor.child import Child, RestartedChild
from chatroom.system.channel import Record
from chatroom.system.endpoint import Endpoint
from chatroom.system.event_loop import EventLoop
from chatroom.system.listening import endpoint, listen


class MetricsProcess:
    """The metrics process, and its listener, which stays open as long as the room runs."""

    def __init__(
        self,
        loop: EventLoop,
        at: Endpoint,
        totals: Callable[[], Record],
        in_use: Sequence[Endpoint] = (),
    ) -> None:
        """Listen at a resolved address; `totals` returns the answer to a scrape.

        `in_use`: addresses at which the room listens.

        Raises ListenError, and MetricsError if prometheus-client is not installed.
        """
        if find_spec("prometheus_client") is None:
            raise MetricsError("--metrics needs prometheus-client: pip install 'chatroom[metrics]'")
        self._totals = totals
        self._listener = listen(at, 0, in_use)
        """Listener. It stays open here, so that a scrape waits while the process is restarted."""
        self.where = endpoint(self._listener)
        self._process = RestartedChild(
            loop, (metrics.main, (self._listener,)), self._answer, Child.ready, "metrics"
        )

    def start(self) -> None:
        """Start the process, and restart it whenever it ends, until `stop`."""
        self._process.start()

    def stop(self) -> None:
        """Kill the process, which holds no data, and close the listener."""
        self._process.end()
        self._listener.close()

    def _answer(self, _record: Record, _descriptors: list[int]) -> None:
        self._process.tell(self._totals())
