"""Call the compiled functions with random input, and print their results.

    python -m tests.transcribe --seed 1 [--sources]

The program prints a line for each result. The lines depend only on the seed. With --sources, Python
runs the sources of compiled modules, although it would prefer the extension modules beside them. A
test compares the outputs of both builds.
"""

import argparse
import random
import sys
from collections.abc import Iterator
from importlib.machinery import (
    EXTENSION_SUFFIXES,
    SOURCE_SUFFIXES,
    ExtensionFileLoader,
    FileFinder,
    SourceFileLoader,
)
from typing import Any

WORDS = [
    b"hello",
    b"\n",
    b"\r\n",
    b"\r",
    b"\x1b[2J",
    b"\x00\x7f\xc2\x9b",
    "€ä😀".encode(),
    b"\xe2\x82",
    b"\xf0\x9f",
    b"\xff",
    b"x" * 70,
    b"<127.0.0.1>",
]

ADDRESSES = ["127.0.0.1", "::1", "::ffff:192.0.2.1", "2001:0db8::0001", "fe80::1%eth0", "localhost"]

HEADERS = [
    b"PROXY TCP4 192.0.2.1 192.0.2.2 1 65535\r\n",
    b"PROXY TCP6 2001:db8::1 ::1 56324 443\r\n",
    b"PROXY UNKNOWN\r\n",
    b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\2\1\xc0\0\2\2\0\x50\1\xbb",
    b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0",
    b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x13\xc0\0\2\1\xc0\0\2\2\0\x50\1\xbb\x03\0\4\0\0\0\0",
]
"""Complete headers. Random bytes of them are changed, removed or added."""


def prefer_sources() -> None:
    """Make Python import sources rather than the extension modules beside them."""
    sys.path_hooks[:] = [
        FileFinder.path_hook(
            (SourceFileLoader, SOURCE_SUFFIXES), (ExtensionFileLoader, EXTENSION_SUFFIXES)
        )
    ]
    sys.path_importer_cache.clear()


def transcribe(seed: int) -> Iterator[object]:
    chance = random.Random(seed)
    yield from framed(chance)
    yield from stored(chance)
    yield from spans(chance)
    yield from headers(chance)
    yield from costs(chance)


def text(chance: random.Random, most: int) -> bytes:
    return b"".join(chance.choices(WORDS, k=chance.randrange(most)))


def result_of(function: Any, *arguments: Any) -> object:
    """Return the result of a call, or the error that it raises."""
    try:
        return function(*arguments)
    except (TypeError, ValueError) as error:
        return type(error).__name__, str(error)


def framed(chance: random.Random) -> Iterator[object]:
    """Frame, sanitise and render the input of members."""
    from chatroom.protocol.framing import Framer
    from chatroom.protocol.message import count, render
    from chatroom.protocol.text import sanitize

    for _ in range(200):
        framer = Framer(chance.choice([4, 5, 64, 4096]), chance.randrange(1000))
        prefix = chance.choice([b"<a>", b"", b"x" * 40])
        for _ in range(20):
            data = text(chance, 12)
            end = chance.choice([framer.flush, framer.close])
            block = framer.feed(data) if chance.random() < 0.8 else end()
            yield block, framer.fed, framer.framed, framer.unfinished
            if block:
                yield sanitize(block), render(prefix, sanitize(block)), count(block)


def stored(chance: random.Random) -> Iterator[object]:
    """Append batches to a small log, and read the log."""
    from chatroom.log.origin import Origin
    from chatroom.log.ring import Batch, Geometry, Log
    from chatroom.protocol.address import canonical
    from chatroom.system.memory import anonymous_file

    for address in ADDRESSES:
        yield result_of(canonical, address)
        yield Origin(address, 7).pack(), Origin.unpack(Origin(address, 7).pack())
    geometry = Geometry(text=8192, entries=64, kept=1024, kept_entries=16)
    log = Log(anonymous_file("a test's log", geometry.file_size), geometry)
    log.format()
    log.prepare_seat(0)
    log.prepare_seat(1)
    for _ in range(2000):
        batch = Batch()
        for _ in range(chance.randrange(1, 4)):
            line = text(chance, 8) + b"\n" * chance.randrange(2)
            if line:
                origin = Origin("192.0.2.1", chance.randrange(9)).pack()
                batch.add(
                    chance.randrange(5), origin, chance.randrange(99), line, line.count(b"\n")
                )
        if not batch:
            continue
        with log:
            yield batch.text(), batch.runs, batch.size, batch.ends_line, log.append(batch)
            worker = chance.randrange(2)
            if chance.random() < 0.3:
                log.wait_for_space(worker)
            yield log.advance(worker, chance.randrange(max(1, log.head - 20), log.head + 1))
            yield log.head, log.serving(), log.yet_to_deliver(), log.has_waiting, log.work(worker)
        first = max(1, log.head - 16)
        start, end = log.offset(first), log.offset(log.head)
        yield [bytes(view) for view in log.views(start, end)], log.unfinished(end)
        yield log.entries(first, log.head), log.spans_by_sender(first, log.head)
        yield log.position(chance.randrange(start, end + 1), first, log.head), log.holder()


def spans(chance: random.Random) -> Iterator[object]:
    """Find the offsets of the text that a member has not received yet."""
    from chatroom.worker.delivery import after, others
    from chatroom.worker.recovery import walk

    for _ in range(1000):
        ends = sorted(chance.sample(range(100), 2 * chance.randrange(6)))
        own = [*zip(ends[::2], ends[1::2], strict=True)]
        start = chance.randrange(50)
        left = others(start, start + chance.randrange(60), own)
        yield left, result_of(after, left, chance.randrange(60))
        yield walk(start, chance.randrange(60), own)


def headers(chance: random.Random) -> Iterator[object]:
    """Parse damaged PROXY headers."""
    from chatroom.protocol.proxy_header import parse

    for _ in range(2000):
        header = bytearray(chance.choice(HEADERS))
        for _ in range(chance.randrange(3)):
            at = chance.randrange(len(header))
            header[at : at + chance.randrange(2)] = chance.randbytes(chance.randrange(2))
        yield result_of(parse, bytes(header[: chance.randrange(len(header) + 1)]))
        yield result_of(parse, bytes(header))


def costs(chance: random.Random) -> Iterator[object]:
    """Compute prefixes, costs and the sizes of turns."""
    from chatroom.protocol import prefix
    from chatroom.worker.allowance import cost
    from chatroom.worker.fair_queue import turn_size

    for form in ("<{ip}>", "{id}{{:{port}}} ", "{", "{name}", "{ip!r}", "\n", ""):
        yield form, result_of(prefix.check, form)
    yield prefix.prefix("{id}{{:{port}}}<{ip}> ", "::1", 7, 2**40), prefix.longest("<{ip}>")
    for _ in range(500):
        block = text(chance, 40)
        yield cost(block, block.count(b"\n")), turn_size(block)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.transcribe", description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--sources", action="store_true")
    options = parser.parse_args()
    if options.sources:
        prefer_sources()
    from chatroom.build import BUILD

    print(BUILD)
    for result in transcribe(options.seed):
        print(result)


if __name__ == "__main__":
    main()
