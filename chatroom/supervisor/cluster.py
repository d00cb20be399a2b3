"""The main process's part of a cluster: the uplink, and the bridge that publishes it.

    the bridge                       the main process
    ready (place)  ──────────────►   notes the place in the stream at which the room began
    engine         ──────────────►   logs whether the engine is in reach
    lost, missed,  ──────────────►   counts and logs what the engine has lost
    rewound, unreadable
                   ◄──────────────   drain, when the room stops
    drained        ──────────────►   the room may end
    (death)        ──────────────►   starts another

If the engine can't be used when the room starts, the room ends with an error that gives the reason.
"""

import logging
import secrets
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from time import monotonic
from typing import Any

from chatroom.config.cluster_url import ClusterURL
from chatroom.config.settings import Settings
from chatroom.errors import ClusterError
from chatroom.log.ring import Log
from chatroom.log.uplink import Uplink
from chatroom.logs import Event
from chatroom.sidecars.cluster.process import Credentials, Node, main
from chatroom.supervisor.child import Child, RestartedChild
from chatroom.supervisor.watchdog import Watchdog
from chatroom.system.channel import Record
from chatroom.system.doorbell import Doorbell
from chatroom.system.event_loop import EventLoop

logger = logging.getLogger(__name__)


class ClusterProcess:
    """The bridge's process. `doorbells`: as in `Seat`."""

    def __init__(
        self,
        loop: EventLoop,
        settings: Settings,
        where: str,
        log: Log,
        uplink: Uplink,
        doorbells: Sequence[Doorbell],
        control: Path | None,
    ) -> None:
        """`where`: addresses at which the room listens; `control`: path of its control socket.

        Raises ClusterError if nats-py is not installed.
        """
        if find_spec("nats") is None:
            raise ClusterError("--cluster needs nats-py: pip install 'chatroom[cluster]'")
        assert settings.cluster is not None
        self._url: ClusterURL = settings.cluster
        self._log = log
        self._uplink = uplink
        self._doorbells = doorbells
        log.prepare_seat(uplink.bridge)  # the bridge may wait for space in the log
        node = Node(
            secrets.randbits(64),
            where,
            settings.cluster,
            Credentials(settings.cluster_credentials, settings.cluster_ca),
            settings.cluster_replicas,
            control,
        )
        self._process = RestartedChild(
            loop,
            (main, (node, settings.limits)),
            self._handle_message,
            self._on_start,
            "bridge",
            cluster=str(self._url),
        )
        self._after: list[Any] | None = None
        """Place in the stream at which this room began; None before the first bridge is ready."""
        self._engine: Record = {"up": False, "reason": "", "round_trip": 0.0}
        """State of the engine, as the bridge has reported it."""
        self._engine_since = monotonic()
        """Time (s, monotonic) at which the engine last came into reach or went out of reach."""
        self._was_down = False
        """True if `cluster-down` has been logged."""
        self._lost = 0
        """Number of messages that the engine has lost after it had accepted them."""
        self._missed = 0
        """Number of publications of other nodes that the stream dropped before this node read
        them."""
        self._drained: bool | None = None
        """True once the bridge has drained; None before the main process has requested this."""
        self._running = False
        """True once the running bridge is ready."""
        self._watchdog = Watchdog(loop, settings.watchdog, self._check_progress)

    @property
    def ready(self) -> bool:
        """True once the room has been connected to the stream."""
        return self._after is not None

    def start(self) -> None:
        """Start the bridge, and restart it whenever it ends, until `stop`."""
        self._process.start()

    def renew(self, settings: Settings) -> None:
        """Apply the watchdog's timeout of new settings."""
        self._watchdog.renew(settings.watchdog)

    def drained(self) -> bool:
        """Return True once everything that members sent is in the room's log.

        Call this repeatedly, once the workers have appended everything to the uplink.
        """
        if self._drained is None:
            self._drained = False
            self._process.tell({"drain": True})
        return self._drained

    def stop(self) -> None:
        """Kill the bridge, and log how many messages were not published."""
        self._watchdog.stop()
        self._process.end()
        messages, _ = self._uplink.unpublished
        if self.ready and messages:
            says = "the engine did not accept these messages; they are lost"
            self._warn("unpublished", says, messages=messages)

    def status(self) -> dict[str, Any]:
        """Return the part of the status report about the cluster.

        Sizes are in bytes, times in seconds. `unchanged`: time for which `up` has had its value.
        `reason`: why the engine is out of reach, or "".
        """
        messages, size = self._uplink.unpublished
        return {
            "url": str(self._url),
            **self._engine,
            "unchanged": monotonic() - self._engine_since,
            "pending": messages,
            "pending_bytes": size,
            "lost": self._lost,
            "missed": self._missed,
        }

    # --- the bridge ----------------------------------------------------------

    def _on_start(self, child: Child) -> None:
        self._running = False
        bells = [fd for bell in self._doorbells for fd in bell.fds]
        record = {
            "doorbells": len(self._doorbells),
            "after": self._after,
            "told": self.ready and not self._engine["up"],
        }
        child.tell(record, [self._log.fd, self._uplink.fd, *bells])
        if self._drained is False:
            child.tell({"drain": True})

    def _handle_message(self, record: Record, _descriptors: list[int]) -> None:
        match record:
            case {"failed": reason}:
                if not self.ready:
                    raise ClusterError(reason)
                self._warn("closed", "another bridge connects to the engine", error=reason)
            case {"ready": after}:
                self._after, self._running = after, True
                assert self._process.child is not None
                self._process.child.ready()
                self._process.succeeded()
            case {"engine": state}:
                if state["up"] != self._engine["up"]:
                    self._on_engine(state)
                    self._engine_since = monotonic()
                self._engine = state
            case {"drained": True}:
                self._drained = True
            case _:
                self._on_loss(record)

    def _on_loss(self, record: Record) -> None:
        match record:
            case {"lost": messages}:
                self._lost += messages
                says = "the engine has lost messages that it had accepted; other nodes miss them"
                self._warn("lost", says, messages=messages)
            case {"missed": publications}:
                self._missed += publications
                says = "the stream had dropped publications before this node read them"
                self._warn("missed", says, publications=publications)
            case {"rewound": publications}:
                says = "the engine has lost the end of the stream"
                self._warn("rewound", says, publications=publications)
            case {"unreadable": error}:
                self._warn("unreadable", "a publication was left out", error=error)

    def _on_engine(self, state: Record) -> None:
        if not state["up"]:
            self._was_down = True
            says = "the engine is out of reach: messages wait, and senders are throttled"
            self._warn("down", says, error=state["reason"] or "no answer")
        elif self._was_down:  # a warning, too, so that the log shows the end
            seconds = round(monotonic() - self._engine_since)
            self._warn("up", "the engine is in reach again", seconds=seconds)
        else:
            logger.info(Event("cluster-up", cluster=str(self._url)))

    def _warn(self, event: str, says: str, **fields: object) -> None:
        logger.warning(Event(f"cluster-{event}", says, cluster=str(self._url), **fields))

    def _check_progress(self) -> None:
        """Kill a bridge that makes no progress. Another bridge replaces it."""
        turns = self._uplink.turns(self._uplink.bridge)
        if self._watchdog.check({0: turns} if self._running else {}):
            self._watchdog.reset()
            self._process.replace_stuck()
