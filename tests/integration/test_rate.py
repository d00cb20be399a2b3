"""A member that floods is read from more slowly (LOAD-3), and loses nothing."""

import time

import pytest

from tests.integration.rooms import NEVER_SILENT, UNLIMITED, room

KIB = 1024
RATE, BURST = 64 * KIB, 32 * KIB
READ = 32 * KIB


@pytest.mark.parametrize("workers", [1, 2])
def test_load_3_a_flooder_is_slowed_down(workers: int) -> None:
    """LOAD-3: to its allowance; another one's line goes between its own without delay."""
    options = ("--workers", workers, "--quiet", "--rate", RATE, "--burst", BURST, *NEVER_SILENT)
    with room(*options) as here:
        flooder, listener, speaker = (here.join(f"127.0.0.{number}") for number in (2, 3, 4))
        line = b"x" * 1023 + b"\n"
        count = (BURST + 3 * RATE) // len(line)  # takes longer than the machine may stand still
        began = time.monotonic()
        assert flooder.say_what_fits(line * count) == count * len(line)
        heard = b""
        for number in range(5):
            speaker.say(b"%d\n" % number)
            heard += listener.hear_until(speaker.prefix + b"%d\n" % number)
        assert heard.count(flooder.prefix) < count, "the speaker was heard behind the whole flood"
        while heard.count(flooder.prefix) < count:
            heard += listener.hear_until(b"\n")
        took = time.monotonic() - began
        # One read may exceed the burst, and is made up for afterwards.
        assert took >= (count * len(line) - BURST - READ) / RATE
        theirs = b"".join(speaker.prefix + b"%d\n" % number for number in range(5))
        said = heard.splitlines(keepends=True)
        own = [one for one in said if one.startswith(flooder.prefix)]
        assert own == [flooder.prefix + line] * count
        assert b"".join(one for one in said if not one.startswith(flooder.prefix)) == theirs
        flooder.hear(theirs)


def test_load_3_a_room_without_limit() -> None:
    """LOAD-3: `--rate 0` reads as fast as all are heard."""
    with room("--workers", 2, "--quiet", "--burst", "1K", *UNLIMITED, *NEVER_SILENT) as here:
        flooder, listener = (here.join(f"127.0.0.{number}") for number in (2, 3))
        line = b"x" * 1023 + b"\n"
        began = time.monotonic()
        for _ in range(16):
            flooder.say(line * 128)
            listener.hear((flooder.prefix + line) * 128)
        assert time.monotonic() - began < 16, "the default rate would take 32 s for these 2 MiB"
