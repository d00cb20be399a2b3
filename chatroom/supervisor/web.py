"""The main process's part of the web gateway: its listeners, and a connection for each browser.

    the gateway                      the main process
    ready           ──────────────►
    open (address)  ──────────────►  makes a loopback TCP connection, and a member of one end
                    ◄──────────────  opened, with the other end; or refused (reason), or failed
    taken           ──────────────►  closes its copy of the other end
                    ◄──────────────  ping, now and then
    turn            ──────────────►  notes that the gateway makes progress
                    ◄──────────────  reload: read the certificate again
    error           ──────────────►  logs what is wrong with the certificate
                    ◄──────────────  stop, when all members have been disconnected
    (death)         ──────────────►  starts another

The connection uses TCP, because the kernel counts the bytes of a TCP connection. The room needs
these counts so that a worker's death does not disconnect a browser (LOAD-4). The main process makes
both ends itself, and admits the member with the browser's address. So no other program can claim an
address.
"""

import logging
import socket
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import NamedTuple

from chatroom.config.settings import Settings
from chatroom.errors import ListenError, WebError
from chatroom.logs import Event
from chatroom.protocol.refusal_reason import RefusalReason
from chatroom.sidecars.web.process import RESERVED, Certificate, Listeners, Rules, main
from chatroom.supervisor.child import Child, RestartedChild
from chatroom.supervisor.watchdog import Watchdog
from chatroom.system.channel import Record
from chatroom.system.descriptors import raise_limit
from chatroom.system.endpoint import Endpoint
from chatroom.system.event_loop import EventLoop
from chatroom.system.listening import endpoint, listen, prepare, set_keepalive

CONNECT_WITHIN = 1.0
"""Timeout (s) for a loopback connection. It takes less than a millisecond, unless the system drops
packets of its loopback interface."""
STOP_WITHIN = 1.0
"""Timeout (s) for the gateway to close all WebSockets when the room stops."""


class Addresses(NamedTuple):
    """Resolved addresses; None: not served."""

    web: Endpoint | None
    """For browsers."""
    tls: Endpoint | None
    """For line clients over TLS."""


Admit = Callable[[socket.socket, str, int], RefusalReason | None]

logger = logging.getLogger(__name__)


class WebProcess:
    """The gateway's process, and its listeners, which stay open as long as the room runs.

    `admit(connection, address, port)` makes a member of a connection, or returns the reason why it
    is refused; the connection is then still open.
    """

    def __init__(
        self,
        loop: EventLoop,
        settings: Settings,
        at: Addresses,
        in_use: Sequence[Endpoint],
        admit: Admit,
    ) -> None:
        """Listen at the addresses. `in_use`: addresses at which the room listens already.

        Raises ListenError, WebError; LimitError if the gateway would have too few descriptors.
        """
        if find_spec("websockets") is None:
            option = "--web" if at.web else "--tls"
            raise WebError(f"{option} needs websockets: pip install 'chatroom[web]'")
        raise_limit(RESERVED)  # an error is one line here, and not in the gateway's process
        self._loop = loop
        self._admit = admit
        self._certificate = _certificate(settings)
        self._listeners: list[socket.socket] = []
        """Listeners, kept open here: clients wait while the process is replaced."""
        used = list(in_use)
        self.where: list[str] = []
        """Lines that say where the gateway listens, for the console."""
        web = tls = None
        scheme = "https" if self._certificate else "http"
        if at.web is not None:
            web = self._listen(at.web, used)
            self.where.append(f"web page on {scheme}://{endpoint(web)}/")
        if at.tls is not None:
            tls = self._listen(at.tls, used)
            set_keepalive(tls, settings.peer_timeout)
            self.where.append(f"TLS on {endpoint(tls)}")
        self._tls = tls
        rules = Rules(settings.web_origin, settings.web_proxy_from, settings.web_keep)
        self._process = RestartedChild(
            loop,
            (main, (Listeners(web, tls), self._certificate, rules)),
            self._handle_message,
            self._on_start,
            "web",
        )
        self._running = False
        """True once the present process is ready."""
        self._turns = 0
        """Number of pings that the gateway has answered."""
        self._watchdog = Watchdog(loop, settings.watchdog, self._check_progress)
        self._accepts = False
        self._waiting: list[Record] = []
        """Requests that wait until a worker is ready."""
        self._handed_over: dict[int, socket.socket] = {}
        """Connections that the gateway has not taken yet, by the number of its request."""

    def _listen(self, at: Endpoint, used: list[Endpoint]) -> socket.socket:
        try:
            listener = listen(at, 0, used)
        except ListenError:
            self._close_listeners()
            raise
        self._listeners.append(listener)
        used.append(endpoint(listener))
        return listener

    def start(self) -> None:
        """Start the process, and restart it whenever it ends, until `stop`."""
        self._process.start()

    def renew(self, settings: Settings) -> None:
        """Apply the timeouts of new settings, and read the certificate again.

        If something is wrong with the certificate, the old one stays in use.
        """
        self._watchdog.renew(settings.watchdog)
        if self._tls is not None:
            set_keepalive(self._tls, settings.peer_timeout)
        if self._certificate is not None:
            try:
                _check(self._certificate)
            except WebError as error:
                self._on_bad_certificate(str(error))
            else:
                self._process.tell({"reload": True})

    def accept(self, accept: bool) -> None:
        """Make members, or let browsers wait, as for Acceptor.accept. Idempotent."""
        self._accepts = accept
        if accept:
            waiting, self._waiting = self._waiting, []
            for record in waiting:
                self._open(record)

    def stop(self) -> None:
        """Stop the process, so that browsers know that the room has ended; close the listeners."""
        self._watchdog.stop()
        self._process.stop()
        deadline = self._loop.now() + STOP_WITHIN
        self._process.tell({"stop": True})
        while self._process.child is not None and (left := deadline - self._loop.now()) > 0:
            self._process.child.wait(left)
        self._process.end()
        self._drop_connections()
        self._close_listeners()

    def _close_listeners(self) -> None:
        for listener in self._listeners:
            listener.close()

    def _on_start(self, _child: Child) -> None:
        self._running = False
        self._waiting.clear()
        self._drop_connections()

    def _drop_connections(self) -> None:
        """Close the connections that a gateway had not taken when it ended."""
        for connection in self._handed_over.values():
            connection.close()
        self._handed_over.clear()

    def _handle_message(self, record: Record, _descriptors: list[int]) -> None:
        match record:
            case {"ready": True}:
                assert self._process.child is not None
                self._running = True
                self._process.child.ready()
                self._process.succeeded()
            case {"open": _} if self._accepts:
                self._open(record)
            case {"open": _}:
                self._waiting.append(record)
            case {"turn": True}:
                self._turns += 1
            case {"error": error}:
                self._on_bad_certificate(error)
            case {"taken": number} if number in self._handed_over:
                self._handed_over.pop(number).close()

    def _open(self, record: Record) -> None:
        """Make a member of a new connection, and pass its other end to the gateway."""
        number = record["open"]
        try:
            ours, theirs = connect()
        except OSError:
            self._process.tell({"failed": number})
            return
        reason = self._admit(ours, record["address"], record["port"])
        if reason is None:
            self._handed_over[number] = theirs
            self._process.tell({"opened": number}, [theirs.fileno()])
        else:
            ours.close()
            theirs.close()
            self._process.tell({"refused": number, "reason": reason})

    def _check_progress(self) -> None:
        """Kill a gateway that makes no progress; it is replaced."""
        stuck = self._watchdog.check({0: self._turns} if self._running else {})
        if not stuck:
            self._process.tell({"ping": True})
        elif self._process.child is not None:
            self._watchdog.reset()
            says = "the gateway makes no progress; it is replaced"
            logger.warning(Event("web-stuck", says))
            self._process.child.kill()

    def _on_bad_certificate(self, error: str) -> None:
        says = "the gateway does not use this certificate"
        logger.error(Event("web-certificate", says, error=error))


def _certificate(settings: Settings) -> Certificate | None:
    """Return the certificate, checked. Raises WebError."""
    if settings.web_cert is None or settings.web_key is None:
        return None
    certificate = Certificate(settings.web_cert, settings.web_key)
    _check(certificate)
    return certificate


def _check(certificate: Certificate) -> None:
    from chatroom.sidecars.web.certificate import check  # here, because it imports OpenSSL

    check(certificate)


def connect() -> tuple[socket.socket, socket.socket]:
    """Return the two ends of a TCP connection on the loopback interface. Raises OSError.

    Another program that connects to the listener is turned away.
    """
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        prepare(listener, 0)
        listener.settimeout(CONNECT_WITHIN)
        theirs = socket.create_connection(listener.getsockname(), CONNECT_WITHIN)
        try:
            while True:
                ours, peer = listener.accept()
                if peer == theirs.getsockname():
                    break
                ours.close()
        except BaseException:
            theirs.close()
            raise
    theirs.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for end in (ours, theirs):
        end.setblocking(False)
    return ours, theirs
