"""Start and end of a worker process.

A worker starts with its end of the channel only. The first record brings the log, the slots, the
room's rate and the doorbells; later records bring members. If the main process ends, the channel
closes, and the worker ends.
"""

import socket
import sys

from chatroom.config.limits import Limits
from chatroom.log.ring import Geometry, Log
from chatroom.log.room_rate import RoomRate
from chatroom.log.slots import Slots
from chatroom.log.uplink import Uplink
from chatroom.system.channel import PARENT, Channel, ChannelClosed
from chatroom.system.doorbell import Doorbell
from chatroom.system.poller import wait
from chatroom.worker.cluster_loop import ClusterWorker
from chatroom.worker.loop import Worker
from chatroom.worker.seat import Seat


def main(number: int, limits: Limits, end: socket.socket) -> None:
    """Run worker `number` until it ends. This is the target of its process.

    The process is started with the room's signals blocked: a Ctrl-C reaches the whole process
    group, but only the main process acts on it.
    """
    channel = Channel(end)
    try:
        try:
            worker = _begin(number, limits, channel)
        except Exception as error:  # the main process prints it in one line
            channel.send({"failed": f"{type(error).__name__}: {error}"})
            sys.exit(1)
        channel.send({"ready": True})
        worker.watch(PARENT)
        worker.run()
    except ChannelClosed:
        sys.exit(1)


def _begin(number: int, limits: Limits, channel: Channel) -> Worker:
    """Create the worker once the main process has sent the shared resources."""
    wait([channel])
    record, (log, slots, room_rate, *bells) = next(channel.receive())
    uplink = Uplink(bells.pop(0), limits) if limits.uplink_size else None
    each = len(bells) // record["doorbells"]  # number of descriptors of one doorbell
    doorbells = [Doorbell(bells[first : first + each]) for first in range(0, len(bells), each)]
    seat = Seat(
        number,
        limits,
        Log(log, Geometry.of(limits)),
        Slots(slots, limits),
        RoomRate(room_rate, limits),
        doorbells,
        uplink,
    )
    return Worker(seat, channel) if uplink is None else ClusterWorker(seat, channel, uplink)
