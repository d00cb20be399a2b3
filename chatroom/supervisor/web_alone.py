"""The main process of `python -m chatroom.web`: it runs gateways that connect to rooms by TCP."""

import asyncio
import contextlib
import signal
from collections.abc import Callable

from chatroom.config.settings import Settings
from chatroom.errors import WebError
from chatroom.sidecars.web.process import Rooms, reserved
from chatroom.sidecars.web.rooms import TCPConnector, UnreachableError
from chatroom.supervisor.web import Addresses, Gateways
from chatroom.system.descriptors import raise_limit
from chatroom.system.event_loop import EventLoop
from chatroom.system.signals import STOP_SIGNALS, watch_signals

SIGNALS = (*STOP_SIGNALS, signal.SIGHUP)

RESERVED = 64
"""Number of descriptors that the process needs, in addition to those for each gateway."""


def run(
    settings: Settings, at: Addresses, rooms: Rooms, on_listening: Callable[[list[str]], None]
) -> None:
    """Serve until SIGINT or SIGTERM.

    `on_listening` is called once all gateways are ready, with lines that say where they listen.
    Raises ListenError, LimitError, and WebError if no room answers now, or the certificate can't be
    used.
    """
    loop = EventLoop()
    stopped = False

    def on_signal(number: int) -> None:
        nonlocal stopped
        if number == signal.SIGHUP:
            gateways.reload_certificate()
        else:
            stopped = True

    with contextlib.ExitStack() as cleanup:
        cleanup.callback(loop.close)
        raise_limit(RESERVED + reserved(settings.web_processes))
        gateways = Gateways(loop, settings, at, (), None, rooms)
        cleanup.callback(gateways.stop)
        try:
            asyncio.run(TCPConnector(rooms).probe())
        except UnreachableError as error:
            raise WebError(str(error)) from None
        watch_signals(loop, SIGNALS, on_signal, cleanup)
        gateways.start()
        while not (stopped or gateways.running):
            loop.turn()
        if not stopped:
            on_listening(gateways.where)
        while not stopped:
            loop.turn()
        # One stop signal is enough: a second one must not end this process before the others.
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
