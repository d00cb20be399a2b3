"""Attack a room with floods, and measure the effect on its other members. Run this by hand:

    python -m tests.integration.floods --seconds 10

Each row is one room with its default options and a transcript. Strangers send one payload as fast
as the room reads it. Meanwhile, two readers receive 1 MB/s and 0.5 MB/s, a listener receives as
fast as it can, and a typist sends a line every half second. A row shows:

- which readers the room has disconnected;
- the number of messages that the transcript reports as missed;
- the longest time from a line of the typist until the listener received it;
- the bytes that the listener received, per second of the attack.

The exit code is 1 if the room has disconnected the reader of 1 MB/s, or if the transcript lacks a
message. Times depend on the machine, which the strangers share with the room.
"""

import argparse
import contextlib
import json
import multiprocessing
import selectors
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from tests.integration.clients import Client
from tests.integration.rooms import room

PAYLOADS: dict[str, bytes] = {
    "empty lines": b"\n" * 60_000,
    "lines of 80 bytes": (b"x" * 79 + b"\n") * 800,
    "no line ends": b"y" * 64_000,
    "control characters": (b"\x01" * 999 + b"\n") * 64,
    "telnet commands": b"\xff\xfd\x01" * 20_000,
}
RECONNECTING = "empty lines, reconnecting"
"""Payload of strangers that close the connection after 100,000 empty lines, and connect again."""
AFTER = 100_000

PACES = (1e6, 0.5e6)
"""Bytes per second that the two paced readers receive. The room must not disconnect the first
reader."""
TYPIST = "127.1.0.2"
LISTENER = "127.1.0.3"
PACE_STEP = 0.02
"""Seconds between two reads of the paced reader."""
TYPE_EVERY = 0.5


class Attack(NamedTuple):
    """An attack of strangers: `connections` connections from `addresses` addresses send a
    payload."""

    connections: int
    addresses: int
    payload: str


ATTACKS = [
    Attack(connections, addresses, payload)
    for connections, addresses in ((2, 1), (6, 1), (40, 40), (900, 900))
    for payload in (*PAYLOADS, RECONNECTING)
]


# --- strangers -----------------------------------------------------------------------------------


class Strangers:
    """The connections of one attack."""

    def __init__(self, host: str, port: int, attack: Attack) -> None:
        self._where = host, port
        self._attack = attack
        self._reconnecting = attack.payload == RECONNECTING
        self._payload = PAYLOADS["empty lines" if self._reconnecting else attack.payload]
        self._selector = selectors.DefaultSelector()
        self._sent: dict[int, int] = {}
        """Number of bytes that each connection has sent, by the connection's number."""
        for number in range(attack.connections):
            self._connect(number)

    def run(self, stop: float) -> None:
        """Flood the room until the time `stop` (s, monotonic)."""
        while time.monotonic() < stop:
            for key, events in self._selector.select(0.1):
                connection, number = key.fileobj, key.data
                assert isinstance(connection, socket.socket)
                if self._has_ended(connection, number, events):
                    self._selector.unregister(connection)
                    connection.close()
                    self._connect(number)

    def _connect(self, number: int) -> None:
        address = number % self._attack.addresses
        connection = socket.socket()
        connection.setblocking(False)
        connection.bind((f"127.2.{address // 250}.{address % 250 + 2}", 0))
        with contextlib.suppress(BlockingIOError):
            connection.connect(self._where)
        self._sent[number] = 0
        events = selectors.EVENT_READ | selectors.EVENT_WRITE
        self._selector.register(connection, events, number)

    def _has_ended(self, connection: socket.socket, number: int, events: int) -> bool:
        """Receive and send; return True if the connection has ended, or must be replaced."""
        try:
            if events & selectors.EVENT_READ and not connection.recv(1 << 20):
                return True
            if events & selectors.EVENT_WRITE:
                self._sent[number] += connection.send(self._payload)
        except BlockingIOError:
            pass
        except OSError:
            return True
        return self._reconnecting and self._sent[number] >= AFTER


def strangers(host: str, port: int, attack: Attack, stop: float) -> None:
    """Flood a room until the time `stop` (s, monotonic), as the target of a process."""
    Strangers(host, port, attack).run(stop)


# --- the members that are watched ----------------------------------------------------------------


class Reader(threading.Thread):
    """A member that receives `pace` bytes per second, or as fast as it can if `pace` is None."""

    def __init__(self, client: Client, pace: float | None, stop: float) -> None:
        super().__init__(daemon=True)
        self._client = client
        self._pace = pace
        self._until = stop
        self.received = 0
        self.ended = False
        self.heard: dict[int, float] = {}
        """Time at which this reader received each line of the typist, by the line's number."""

    def run(self) -> None:
        connection, rest = self._client.socket, b""
        connection.settimeout(0.2)
        begin = time.monotonic()
        while (now := time.monotonic()) < self._until:
            most = 1 << 20
            if self._pace is not None:
                most = int((now - begin) * self._pace) - self.received
                if most <= 0:
                    time.sleep(PACE_STEP)
                    continue
            try:
                data = connection.recv(most)
            except TimeoutError:
                continue
            except OSError:
                data = b""
            if not data:
                self.ended = True
                return
            self.received += len(data)
            if self._pace is None:
                rest = self._note(rest + data)

    def _note(self, data: bytes) -> bytes:
        now = time.monotonic()
        whole, _, rest = data.rpartition(b"\n")
        for line in whole.split(b"\n") if TYPIST.encode() in whole else ():
            if line.startswith(b"<%s>typed " % TYPIST.encode()):
                self.heard[int(line.split()[-1])] = now
        return rest


class Row(NamedTuple):
    """Result of one attack."""

    attack: Attack
    disconnected: list[bool]
    """One value per reader of PACES: True if the room has disconnected it."""
    missing: int
    slowest: float
    """Longest time (s) until the listener received a line of the typist."""
    added: float
    """Bytes per second that the listener received."""


def measure(attack: Attack, seconds: float, options: list[str]) -> Row:
    """Run one attack on a new room, and return the row."""
    with tempfile.TemporaryDirectory() as folder:
        transcript = Path(folder) / "said.jsonl"
        with room("--quiet", "--verbose", "--transcript", transcript, *options, logs=".*") as here:
            paced = [here.join(f"127.1.1.{n + 1}", 1 << 16) for n in range(len(PACES))]
            listener, typist = here.join(LISTENER), here.join(TYPIST)
            stop = time.monotonic() + seconds
            attackers = multiprocessing.get_context("spawn").Process(
                target=strangers, args=(here.host, here.port, attack, stop)
            )
            attackers.start()
            fast = Reader(listener, None, stop + 1)
            slow = [
                Reader(client, pace, stop + 1) for client, pace in zip(paced, PACES, strict=True)
            ]
            readers = [fast, *slow]
            for reader in readers:
                reader.start()
            typed = dict(type_lines(typist, stop))
            attackers.join()
            for reader in readers:
                reader.join()
        missing = 0
        for line in transcript.read_text().splitlines():
            missing += json.loads(line).get("missed", 0)
        slowest = max(
            fast.heard.get(number, stop + 1) - began
            for number, began in typed.items()
            if began < stop - 1
        )
    return Row(attack, [reader.ended for reader in slow], missing, slowest, fast.received / seconds)


def type_lines(typist: Client, stop: float) -> Iterator[tuple[int, float]]:
    """Send a line every half second; yield the number of each line, and the time when it was
    sent."""
    number = 0
    while (now := time.monotonic()) < stop:
        typist.send(b"typed %d\n" % number)
        yield number, now
        number += 1
        drain(typist)
        time.sleep(TYPE_EVERY)


def drain(client: Client) -> None:
    """Receive and drop all data that has arrived."""
    client.socket.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        while client.socket.recv(1 << 20):
            pass
    client.socket.setblocking(True)


def table(rows: Callable[[], Iterator[Row]]) -> bool:
    """Print the rows; return True if the exit code is 0."""
    good = True
    readers = " | ".join(f"reader of {pace / 1e6:g} MB/s" for pace in PACES)
    print(
        f"| connections | addresses | payload | {readers} | transcript lacks | typist waits | log |"
    )
    print("|---" * (6 + len(PACES)) + "|")
    for row in rows():
        connections, addresses, payload = row.attack
        good = good and not row.disconnected[0] and not row.missing
        stays = " | ".join("disconnected" if ended else "stays" for ended in row.disconnected)
        print(
            f"| {connections} | {addresses} | {payload} | {stays} | {row.missing} |"
            f" {row.slowest:.2f} s | {row.added / 1000:,.0f} kB/s |",
            flush=True,
        )
    return good


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.integration.floods", description=__doc__)
    parser.add_argument("--seconds", type=float, default=10.0, help="length of each attack")
    parser.add_argument("--only", type=int, help="number of connections of the attacks to run")
    parser.add_argument("--payload", choices=[*PAYLOADS, RECONNECTING], help="payload to send")
    parser.add_argument("options", nargs="*", help="options of the room, after --")
    arguments = parser.parse_args()
    attacks = [
        attack
        for attack in ATTACKS
        if arguments.only in (None, attack.connections)
        and arguments.payload in (None, attack.payload)
    ]
    good = table(
        lambda: (measure(attack, arguments.seconds, arguments.options) for attack in attacks)
    )
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
