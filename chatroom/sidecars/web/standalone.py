"""The gateway as a program of its own, in front of rooms that it reaches by TCP."""

import asyncio
import logging
import signal
import ssl
from collections.abc import Callable

from chatroom.errors import WebError
from chatroom.logs import Event
from chatroom.sidecars.web import certificate as certificates
from chatroom.sidecars.web.gateway import Gateway, on_loop_error
from chatroom.sidecars.web.line_clients import LineClients
from chatroom.sidecars.web.process import RESERVED, Certificate, Listeners, Rules
from chatroom.sidecars.web.rooms import TCPDoor, UnreachableError
from chatroom.sidecars.web.site import Site
from chatroom.system.descriptors import raise_limit
from chatroom.system.signals import STOP_SIGNALS

SIGNALS = (*STOP_SIGNALS, signal.SIGHUP)

logger = logging.getLogger(__name__)


async def run(
    listeners: Listeners,
    certificate: Certificate | None,
    rules: Rules,
    door: TCPDoor,
    on_listening: Callable[[], None],
) -> None:
    """Serve until SIGINT or SIGTERM. `on_listening` is called once clients can connect.

    Raises WebError if no room answers now, or the certificate can't be used.
    """
    tls = None
    if certificate is not None:
        certificates.check(certificate)
        tls = certificates.context(certificate)
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(on_loop_error)
    for number in STOP_SIGNALS:
        loop.add_signal_handler(number, stopped.set)
    loop.add_signal_handler(signal.SIGHUP, _reload, tls, certificate)
    try:
        await door.probe()
    except UnreachableError as error:
        raise WebError(str(error)) from None
    gateway = Gateway(Site(), door, rules, raise_limit(RESERVED) // 2)
    if listeners.web is not None:
        await gateway.listen(listeners.web, tls)
    if listeners.tls is not None:
        assert tls is not None
        await LineClients(door, gateway.connections).listen(listeners.tls, tls)
    on_listening()
    await stopped.wait()
    # One stop signal is enough. asyncio restores Python's handlers when it ends, and a second
    # Ctrl-C would then be a traceback.
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    await gateway.stop()


def _reload(tls: ssl.SSLContext | None, certificate: Certificate | None) -> None:
    """Read the certificate again. If something is wrong with it, the old one stays in use."""
    if tls is None or certificate is None:
        return
    try:
        certificates.check(certificate)
        certificates.load(tls, certificate)
    except WebError as error:
        says = "the gateway does not use this certificate"
        logger.error(Event("web-certificate", says, error=error))
