"""The main process's part of the web gateways: their listeners, and a connection for each browser.

    a gateway                        the main process
    ready           ──────────────►
    open (address)  ──────────────►  makes a loopback TCP connection; one end becomes a member
                    ◄──────────────  opened, with the other end; or refused (reason), or failed
                    ◄──────────────  ping, now and then
    turn            ──────────────►  notes that the gateway makes progress
                    ◄──────────────  reload: read the certificate again
    error           ──────────────►  logs why the certificate can't be used
                    ◄──────────────  stop, when all members have been disconnected
    (death)         ──────────────►  starts another

session_moves.py handles the records about sessions that move from one gateway to another.

The connection uses TCP, because the kernel counts the bytes of a TCP connection. The room needs
these counts so that a worker's death does not disconnect a browser (LOAD-4). The main process
itself makes both ends, and admits the member with the browser's address. So no other program can
pretend to have this address.
"""

import logging
import socket
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from importlib.util import find_spec
from typing import Any, NamedTuple

from chatroom.config.settings import Settings
from chatroom.errors import ListenError, WebError
from chatroom.logs import Event
from chatroom.protocol.refusal_reason import RefusalReason
from chatroom.sidecars.web.process import (
    RESERVED,
    Certificate,
    Listeners,
    Place,
    Rooms,
    Rules,
    main,
)
from chatroom.supervisor.child import RestartedChild
from chatroom.supervisor.session_moves import SessionMoves
from chatroom.supervisor.watchdog import Watchdog
from chatroom.system.channel import Record
from chatroom.system.descriptors import raise_limit
from chatroom.system.endpoint import Endpoint
from chatroom.system.event_loop import EventLoop
from chatroom.system.listening import endpoint, listen, listen_beside, prepare, set_keepalive

CONNECT_WITHIN = 1.0
"""Timeout (s) for a loopback connection. It takes less than a millisecond, unless the system drops
packets of its loopback interface."""
STOP_WITHIN = 1.0
"""Timeout (s) for the gateways to disconnect all clients when the room stops."""


class Addresses(NamedTuple):
    """Resolved addresses at which to listen; None: do not listen."""

    web: Endpoint | None
    """For browsers."""
    tls: Endpoint | None
    """For line clients over TLS."""


Admit = Callable[[socket.socket, str, int], RefusalReason | None]

logger = logging.getLogger(__name__)


class _Gateway:
    """One gateway: its process, and its state as the main process knows it."""

    def __init__(
        self,
        loop: EventLoop,
        start: tuple[Callable[..., None], Any],
        on_record: Callable[["_Gateway", Record, list[int]], None],
        on_start: Callable[["_Gateway"], None],
        number: int,
    ) -> None:
        self.number = number
        self._is_ready = False
        """True once the last process that was started has become ready."""
        self.turns = 0
        """Number of pings that the gateway has answered, plus `starts`; for the watchdog."""
        self.starts = 0
        """Number of times that the process was started."""
        self.waiting: list[Record] = []
        """Requests that wait until a worker is ready."""
        self.process = RestartedChild(
            loop, start, partial(on_record, self), lambda _: on_start(self), "web", gateway=number
        )

    @property
    def running(self) -> bool:
        """True while a process runs that is ready."""
        return self._is_ready and self.process.child is not None

    def started(self) -> None:
        """Note that a process was started."""
        self._is_ready = False
        self.starts += 1
        self.turns += 1  # otherwise the next check would find the new process stuck
        self.waiting.clear()

    def ready(self) -> None:
        """Note that the process is ready."""
        assert self.process.child is not None
        self._is_ready = True
        self.process.child.ready()
        self.process.succeeded()


class Gateways:
    """The gateways' processes, and their listeners, which stay open as long as the room runs.

    `admit(connection, address, port)` makes a member of a connection, or returns the reason why it
    is refused; the connection is then still open.
    """

    def __init__(
        self,
        loop: EventLoop,
        settings: Settings,
        at: Addresses,
        in_use: Sequence[Endpoint],
        admit: Admit | None,
        rooms: Rooms | None = None,
    ) -> None:
        """Listen at the addresses. Raises ListenError, WebError, and LimitError if a gateway would
        have too few descriptors.

        `in_use`: addresses at which the room already listens. `rooms`: rooms to which the gateways
        connect by TCP. Either `admit` or `rooms` is None.
        """
        if find_spec("websockets") is None:
            option = "--web" if at.web else "--tls"
            raise WebError(f"{option} needs websockets: pip install 'chatroom[web]'")
        raise_limit(RESERVED)  # here, the error is one line; in a gateway, it would be a traceback
        self._loop = loop
        self._admit = admit
        self._certificate = _certificate(settings)
        self._listeners: list[socket.socket] = []
        """Listeners, kept open here: clients wait while a process is replaced."""
        self._tls_listeners: list[socket.socket] = []
        """Listeners for line clients."""
        self.where: list[str] = []
        """Lines that say where the gateways listen, for the console."""
        count = settings.web_processes
        host = "" if settings.web is None else settings.web.host
        rules = Rules(settings.web_origin, settings.web_proxy_from, settings.web_keep, host)
        self._gateways = [
            _Gateway(
                loop,
                (main, (Place(number, count), listeners, self._certificate, rules, rooms)),
                self._handle_message,
                self._on_start,
                number,
            )
            for number, listeners in enumerate(self._listen_all(at, count, list(in_use)))
        ]
        self._moves = SessionMoves(count, self._pass_on)
        self._set_keepalive(settings)
        self._watchdog = Watchdog(loop, settings.watchdog, self._check_progress)
        self._accepts = False

    def _listen_all(self, at: Addresses, count: int, in_use: list[Endpoint]) -> Iterator[Listeners]:
        """Yield the listeners of each gateway. Raises ListenError."""
        try:
            web = self._listen(at.web, count, in_use)
            tls = self._listen(at.tls, count, in_use)
        except ListenError:
            self._close_listeners()
            raise
        scheme = "https" if self._certificate else "http"
        if web[0] is not None:
            self.where.append(f"web page on {scheme}://{endpoint(web[0])}/")
        if tls[0] is not None:
            self.where.append(f"TLS on {endpoint(tls[0])}")
        self._tls_listeners = [listener for listener in tls if listener is not None]
        yield from map(Listeners, web, tls)

    def _listen(
        self, at: Endpoint | None, count: int, in_use: list[Endpoint]
    ) -> Sequence[socket.socket | None]:
        """Return `count` listeners at an address. Raises ListenError."""
        if at is None:
            return [None] * count
        first = listen(at, 0, in_use)
        self._listeners.append(first)
        in_use.append(endpoint(first))
        others = []
        for _ in range(count - 1):
            others.append(listen_beside(first))
            self._listeners.append(others[-1])
        return [first, *others]

    def start(self) -> None:
        """Start the processes, and restart each whenever it ends, until `stop`."""
        for gateway in self._gateways:
            gateway.process.start()

    def renew(self, settings: Settings) -> None:
        """Apply the timeouts of new settings, and read the certificate again."""
        self._watchdog.renew(settings.watchdog)
        self._set_keepalive(settings)
        self.reload_certificate()

    def _set_keepalive(self, settings: Settings) -> None:
        """Set the time after which a line client is disconnected if its machine does not respond.
        Browsers get pings instead."""
        for listener in self._tls_listeners:
            set_keepalive(listener, settings.peer_timeout)

    def reload_certificate(self) -> None:
        """Read the certificate again. If it can't be used, the old one stays in use."""
        if self._certificate is not None:
            try:
                _check(self._certificate)
            except WebError as error:
                self._on_bad_certificate(str(error))
            else:
                for gateway in self._gateways:
                    gateway.process.tell({"reload": True})

    def accept(self, accept: bool) -> None:
        """Make members of browsers, or let browsers wait; see Acceptor.accept. Idempotent."""
        self._accepts = accept
        if accept:
            for gateway in self._gateways:
                waiting, gateway.waiting = gateway.waiting, []
                for record in waiting:
                    self._open(gateway, record)

    @property
    def running(self) -> bool:
        """True while all gateways are ready."""
        return all(gateway.running for gateway in self._gateways)

    def status(self) -> list[dict[str, Any]]:
        """Return a row of the status report for each gateway; `pid`: None while no process runs."""
        return [
            {
                "gateway": gateway.number,
                "pid": None if gateway.process.child is None else gateway.process.child.pid,
                "ready": gateway.running,
                "restarts": max(0, gateway.starts - 1),
            }
            for gateway in self._gateways
        ]

    def stop(self) -> None:
        """Let the processes disconnect all clients and end; then close the listeners."""
        self._watchdog.stop()
        processes = [gateway.process for gateway in self._gateways]
        deadline = self._loop.now() + STOP_WITHIN
        for process in processes:
            process.stop()
            process.tell({"stop": True})
        for process in processes:
            while process.child is not None and (left := deadline - self._loop.now()) > 0:
                process.child.wait(left)
        for process in processes:
            process.end()
        self._close_listeners()

    def _close_listeners(self) -> None:
        for listener in self._listeners:
            listener.close()

    def _on_start(self, gateway: _Gateway) -> None:
        gateway.started()
        self._moves.on_start(gateway.number)

    def _handle_message(self, gateway: _Gateway, record: Record, descriptors: list[int]) -> None:
        match record:
            case {"ready": True}:
                gateway.ready()
            case {"open": _} if self._accepts:
                self._open(gateway, record)
            case {"open": _}:
                gateway.waiting.append(record)
            case {"turn": True}:
                gateway.turns += 1
            case {"error": error}:
                self._on_bad_certificate(error)
            case {"claim": id}:
                self._moves.claim(gateway.number, id)
            case {"released": id}:
                self._moves.on_released(gateway.number, id, descriptors)
            case {"gone": id} | {"kept": id}:
                self._moves.on_refused(gateway.number, record, id)
            case {"forget": id}:
                self._moves.forget(gateway.number, id)

    def _open(self, gateway: _Gateway, record: Record) -> None:
        """Admit one end of a new connection as a member, and pass the other end to the gateway."""
        assert self._admit is not None
        number = record["open"]
        try:
            ours, theirs = connect()
        except OSError:
            gateway.process.tell({"failed": number})
            return
        reason = self._admit(ours, record["address"], record["port"])
        if reason is None:
            gateway.process.tell({"opened": number}, [theirs.detach()], owned=True)
        else:
            ours.close()
            theirs.close()
            gateway.process.tell({"refused": number, "reason": reason})

    def _pass_on(self, number: int, record: Record, descriptors: Sequence[int]) -> None:
        self._gateways[number].process.tell(record, descriptors, owned=True)

    def _check_progress(self) -> None:
        """Kill each gateway that makes no progress; it is replaced."""
        running = {gateway.number: gateway.turns for gateway in self._gateways if gateway.running}
        stuck = self._watchdog.check(running)
        for gateway in self._gateways:
            if gateway.number in stuck:
                gateway.process.replace_stuck()
            else:
                gateway.process.tell({"ping": True})

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

    If another program connects to the listener, its connection is closed.
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
