"""Measure the pause of a room after a worker dies. Run this by hand: a test can't rely on times.

    python -m tests.integration.pause --clients 1000 --workers 2 --deaths 5

In each round, a worker is killed, and a member sends a line immediately. The pause is the time
until all members have received this line. The clients, the room and this program share the machine.
"""

import argparse
import os
import selectors
import signal
import statistics
import time

from tests.integration.clients import Client
from tests.integration.rooms import DIED, Room, addresses, room
from tests.integration.waiting import PATIENCE, until


def all_hear(clients: list[Client], line: bytes) -> None:
    """Wait until each client has received the line, which must be the last line sent."""
    with selectors.DefaultSelector() as selector:
        for member in clients:
            selector.register(member, selectors.EVENT_READ)
        while selector.get_map():
            ready = selector.select(PATIENCE)
            assert ready, f"{len(selector.get_map())} clients receive nothing more"
            for key, _ in ready:
                client = key.fileobj
                assert isinstance(client, Client)
                assert client.receive(), f"{client.address}: its connection was {client.ended}"
                if client.unread.endswith(line):
                    client.take(len(client.unread))
                    selector.unregister(client)


def pause(here: Room, clients: list[Client], speaker: Client, number: int) -> float:
    """Kill a worker and send a line; return the seconds until all members have received the
    line."""
    workers = until(lambda: here.workers()[1:] and here.workers(), "there is more than one worker")
    line = f"{number} are dead\n".encode()
    began = time.monotonic()
    os.kill(workers[0].pid, signal.SIGKILL)
    speaker.send(line)
    all_hear(clients, line)
    took = time.monotonic() - began
    until(lambda: len(here.workers()) == len(workers), "a new worker has replaced it")
    return took


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.integration.pause", description=__doc__)
    parser.add_argument("--clients", type=int, default=1000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--deaths", type=int, default=5)
    options = parser.parse_args()
    with room("--quiet", "--workers", options.workers, logs=DIED) as here:
        speaker, *clients = here.join_all(addresses(options.clients))
        pauses = [pause(here, clients, speaker, number) for number in range(options.deaths)]
    for seconds in pauses:
        print(f"{1000 * seconds:.0f} ms")
    print(f"{options.clients} clients, median {1000 * statistics.median(pauses):.0f} ms")


if __name__ == "__main__":
    main()
