"""The gateway's end of the channel to the main process, in asyncio's event loop."""

import asyncio
from collections.abc import Sequence

from chatroom.system.channel import Channel, ChannelClosed, Record

FLUSH_AFTER = 0.01
"""Pause (s) before another attempt to send records that the channel did not accept."""


class Parent:
    """Sends records to the main process."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    def send(self, record: Record, descriptors: Sequence[int] = (), owned: bool = False) -> None:
        """Send a record as soon as the channel accepts it; see Channel.send.

        Raises ChannelClosed.
        """
        self._channel.send(record, descriptors, owned)
        self._flush_later()

    def _flush_later(self) -> None:
        if self._channel.backlog:
            asyncio.get_running_loop().call_later(FLUSH_AFTER, self._flush)

    def _flush(self) -> None:
        try:
            self._channel.flush()
        except ChannelClosed:
            return  # the event loop notices it
        self._flush_later()
