"""Listening sockets."""

import contextlib
import errno
import os
import socket
import stat
import sys
from collections.abc import Sequence
from typing import Any

from chatroom.errors import ListenError
from chatroom.system.endpoint import Endpoint
from chatroom.system.error_text import error_text

ANY_IPV4, ANY = "0.0.0.0", "::"
"""Wildcard addresses: all IPv4 addresses of this machine; all its IPv6 and IPv4 addresses."""

BACKLOG = 4096
"""Maximum number of connections that wait to be accepted; the kernel caps it at
net.core.somaxconn."""


def listen(at: Endpoint, peer_timeout: int, in_use: Sequence[Endpoint] = ()) -> socket.socket:
    """Return a non-blocking socket that listens at a name, an IP address or a Unix socket's path.

    IPv6 is served like IPv4 (JOIN-4). If a name has both kinds of address, an IPv4 address is used,
    because some clients have no IPv6. A listener at `::` also accepts IPv4 clients. A stale file of
    a Unix socket is replaced. `peer_timeout`: seconds after which the kernel breaks a connection
    whose peer does not respond; 0: the system's default. `in_use`: addresses at which this room
    listens already; an error may name one of them. Raises ListenError.
    """
    family: int
    family, address = (socket.AF_UNIX, at.path) if at.path else _resolve(at.host, at.port)
    bind = _bind_file if at.path else _bind
    try:
        with contextlib.ExitStack() as undo:
            listener = undo.enter_context(socket.socket(family, socket.SOCK_STREAM))
            bind(listener, address)
            prepare(listener, peer_timeout)
            undo.pop_all()
    except OSError as error:
        why = error_text(error) + _hint(error, at, in_use)
        raise ListenError(f"can't listen on {at}: {why}") from None
    return listener


def listen_beside(listener: socket.socket) -> socket.socket:
    """Return another listener at the same address; the kernel distributes connections over both.

    On macOS, whose kernel can't do this, return a duplicate of the listener. Raises ListenError.
    """
    if sys.platform != "linux":
        return listener.dup()
    other = socket.socket(listener.family, socket.SOCK_STREAM)
    try:
        # Both listeners need the option. `listener` gets it only now, after its `bind`. Otherwise,
        # it could have bound the address of another room of this user, which must be an error.
        for end in (listener, other):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        _bind(other, listener.getsockname())
        prepare(other, 0)
    except OSError as error:
        other.close()
        raise ListenError(f"can't listen on {endpoint(listener)}: {error_text(error)}") from None
    return other


def resolve(at: Endpoint) -> Endpoint:
    """Return an endpoint with its name resolved. Waits for name servers. Raises ListenError."""
    if at.path:
        return at
    _, (host, port, *more) = _resolve(at.host, at.port)
    scope = f"%{more[1]}" if more and more[1] else ""  # of a link-local address
    return Endpoint(host + scope, port)


def prepare(listener: socket.socket, peer_timeout: int) -> None:
    """Set the options that accepted sockets inherit, and listen. Raises OSError."""
    if listener.family != socket.AF_UNIX:
        # A worker sends all new messages in one call, so Nagle's algorithm would only delay them.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # An urgent byte (MSG_OOB) is text like any other byte (CAST-3).
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE, 1)
        if peer_timeout:
            set_keepalive(listener, peer_timeout)
    listener.listen(BACKLOG)
    listener.setblocking(False)


def remove_file(path: str, inode: int) -> None:
    """Remove the file of our Unix socket, unless another room has replaced it."""
    with contextlib.suppress(OSError):
        if os.stat(path).st_ino == inode:
            os.unlink(path)


def endpoint(listener: socket.socket) -> Endpoint:
    """Return the address at which a socket listens."""
    if listener.family == socket.AF_UNIX:
        path = listener.getsockname()
        # An abstract name begins with NUL, which systemd writes as @.
        if isinstance(path, bytes):
            path = "@" + os.fsdecode(path[1:])
        # Logs, the service manager's status and JSON need valid text.
        return Endpoint(path=os.fsencode(path).decode(errors="backslashreplace"))
    return Endpoint(*listener.getsockname()[:2])


def _resolve(host: str, port: int) -> tuple[int, Any]:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:
        raise ListenError(f"host {host!r} does not resolve: {error_text(error)}") from None
    family, _, _, _, address = min(found, key=lambda info: info[0] != socket.AF_INET)
    return family, address


def _bind(listener: socket.socket, address: Any) -> None:
    # A room that was stopped starts again at once on the same port (JOIN-3).
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if listener.family == socket.AF_INET6:
        with contextlib.suppress(OSError):  # if unsupported, IPv4 clients are refused
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    listener.bind(address)


def _bind_file(listener: socket.socket, path: str) -> None:
    try:
        listener.bind(path)
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
        if not stat.S_ISSOCK(os.stat(path).st_mode):
            raise ListenError(f"can't listen on {path}: the file is not a socket") from None
        if not is_stale(path):
            raise
        os.unlink(path)
        listener.bind(path)


def is_stale(path: str) -> bool:
    """Return whether a Unix socket's file is stale: no process listens at it.

    Raises OSError if there is no file.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        return stat.S_ISSOCK(os.stat(path).st_mode) and (
            probe.connect_ex(path) == errno.ECONNREFUSED
        )


def set_keepalive(listener: socket.socket, within: int) -> None:
    """Set TCP keepalive: break a connection whose peer does not respond for `within` seconds.

    A connection is also broken if its peer's receive window stays full for that time: the kernel
    can't distinguish such a peer from a dead peer. If `within` is 0, the system's default is
    restored. No effect on a Unix socket.
    """
    if listener.family == socket.AF_UNIX:
        return
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, bool(within))
    for name, value in (
        ("TCP_KEEPIDLE", max(1, within // 2)),
        ("TCP_KEEPALIVE", max(1, within // 2)),  # name of TCP_KEEPIDLE on macOS
        ("TCP_KEEPINTVL", max(1, within // 8)),
        ("TCP_KEEPCNT", 4),
        ("TCP_USER_TIMEOUT", within * 1000),
    ):
        if hasattr(socket, name):
            listener.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def _hint(error: OSError, at: Endpoint, in_use: Sequence[Endpoint]) -> str:
    """Return a hint on how to avoid an error; empty if there is none."""
    if error.errno == errno.EADDRINUSE:
        for other in in_use:
            hosts = (at.host, other.host)
            any_ipv4 = ANY_IPV4 in hosts and not any(":" in host for host in hosts)
            if at == other or (at.port == other.port and (ANY in hosts or any_ipv4)):
                includes = f"; {ANY} includes IPv4" if ANY in hosts else ""
                return f" by this room, at {other}{includes}: leave one of the two out"
    if error.errno == errno.EACCES and 0 < at.port < 1024:
        return (
            "; a port below 1024 needs a privilege: give another port, or have systemd pass the"
            " socket (docs/service.md)"
        )
    if error.errno == errno.EADDRNOTAVAIL:
        own = f"{ANY_IPV4} and {ANY} stand for all its addresses"
        return f"; this machine does not have this address: {own}"
    return ""
