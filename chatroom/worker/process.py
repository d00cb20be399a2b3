"""Start and end of a worker process.

A worker starts with nothing but its end of the channel. The first record brings
the log, the slots and the doorbells; later records bring members. If the main
process ends, the channel closes, and the worker ends.
"""

import socket
import sys
from multiprocessing import connection

from chatroom.config.settings import Settings
from chatroom.log.ring import Geometry, Log
from chatroom.log.room_rate import RoomRate
from chatroom.log.slots import Slots
from chatroom.system.channel import Channel, ChannelClosed
from chatroom.system.doorbell import Doorbell
from chatroom.system.spawn import PARENT
from chatroom.worker.loop import Worker
from chatroom.worker.seat import Seat


def main(number: int, settings: Settings, end: socket.socket) -> None:
    """Run worker `number` to its end; the target of its process.

    The process is started with the room's signals blocked: a Ctrl-C reaches the
    whole process group, but only the main process acts on it.
    """
    channel = Channel(end)
    try:
        try:
            worker = _begin(number, settings, channel)
        except Exception as error:  # the main process prints it, in one line
            channel.send({"failed": f"{type(error).__name__}: {error}"})
            sys.exit(1)
        channel.send({"ready": True})
        worker.watch(PARENT)
        worker.run()
    except ChannelClosed:
        sys.exit(1)


def _begin(number: int, settings: Settings, channel: Channel) -> Worker:
    """Create the worker once the main process has sent the shared resources."""
    connection.wait([channel.socket])  # select() takes no descriptor beyond 1,023
    record, (log, slots, room_rate, *bells) = next(channel.receive())
    each = len(bells) // record["doorbells"]  # descriptors of one doorbell
    doorbells = [Doorbell(bells[first : first + each]) for first in range(0, len(bells), each)]
    seat = Seat(
        number,
        settings,
        Log(log, Geometry.of(settings)),
        Slots(slots, settings),
        RoomRate(room_rate, settings),
        doorbells,
    )
    return Worker(seat, channel)
