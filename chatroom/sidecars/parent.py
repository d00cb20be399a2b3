"""The channel to the main process, for sidecars that use asyncio."""

import asyncio
from collections.abc import Sequence

from chatroom.system.channel import Channel, ChannelClosed, Record

FLUSH_AFTER = 0.01
"""Pause (s) before records that the channel did not accept are sent again. A timer also works after
a temporary error, while the channel stays writable."""


class Parent:
    """Sends records to the main process."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._timer: asyncio.TimerHandle | None = None
        """Timer of the next attempt; None if no record waits."""

    def send(self, record: Record, descriptors: Sequence[int] = (), owned: bool = False) -> None:
        """Send a record as soon as the channel accepts it; see Channel.send.

        Raises ChannelClosed.
        """
        self._channel.send(record, descriptors, owned)
        self._flush_later()

    def _flush_later(self) -> None:
        if self._channel.backlog and self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(FLUSH_AFTER, self._flush)

    def _flush(self) -> None:
        self._timer = None
        try:
            self._channel.flush()
        except ChannelClosed:
            return  # the process notices it when it receives
        self._flush_later()
