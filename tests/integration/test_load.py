"""LOAD-1 and LOAD-2 with a log that wraps, and with a full log, in which senders wait for space.

Each receiver counts every byte.
"""

import itertools
import os
import signal
from contextlib import suppress

import pytest

from tests.integration.clients import Client, exchange, grouped
from tests.integration.rooms import NEVER_SILENT, SMALL_LOG, UNLIMITED, addresses, room
from tests.integration.waiting import until

KIB = 1024
MIB = 1024 * KIB


def lines(client: Client, size: int, width: int = 64) -> list[bytes]:
    """Return numbered lines of `width` bytes. With the client's prefix, they have about `size`
    bytes."""
    count = size // (width + len(client.prefix))
    return [(b"%06d" % number).ljust(width, b".")[1 - width :] + b"\n" for number in range(count)]


def delivered(client: Client, said: list[bytes]) -> bytes:
    return b"".join(client.prefix + line for line in said)


def check_order(sent: dict[Client, list[bytes]], listeners: list[Client]) -> None:
    """Check that each client has received all lines but its own, in one order. This is the order of
    the first listener, which sends nothing."""
    size = sum(len(delivered(speaker, said)) for speaker, said in sent.items())
    order = listeners[0].take(size)
    for listener in listeners[1:]:
        assert listener.take(size) == order
    entries = order.splitlines(keepends=True)
    for speaker, said in sent.items():
        own = [line for line in entries if line.startswith(speaker.prefix)]
        assert b"".join(own) == delivered(speaker, said)
        others = b"".join(line for line in entries if not line.startswith(speaker.prefix))
        assert speaker.take(len(others)) == others
    assert not any(client.unread for client in [*listeners, *sent])


# --- the log wraps -------------------------------------------------------------------------------


@pytest.mark.sample(2)
@pytest.mark.parametrize(
    ("workers", "width", "total"),
    [(1, 64, MIB), (3, 64, 2 * MIB), (2, 8, MIB // 2), (3, 8, MIB // 2), (2, 4000, 4 * MIB)],
)
def test_a_flood_through_a_small_log(workers: int, width: int, total: int) -> None:
    """CAST-1 to CAST-5: the log's ring of text or its ring of entries wraps many times. Each worker
    must wait for the others."""
    with room("--workers", workers, "--quiet", *SMALL_LOG, *NEVER_SILENT) as here:
        speakers = here.join_all(addresses(3))
        listeners = here.join_all(addresses(6)[3:])
        said = {speaker: lines(speaker, total // 3, width) for speaker in speakers}
        size = sum(len(delivered(*each)) for each in said.items())
        exchange(
            {client: grouped(text, max(1, 4000 // width)) for client, text in said.items()},
            {
                **{client: size - len(delivered(client, text)) for client, text in said.items()},
                **dict.fromkeys(listeners, size),
            },
            ahead=48 * KIB,
        )
        check_order(said, listeners)


@pytest.mark.sample(1)
@pytest.mark.parametrize("width", [2, 64, 2000])
def test_senders_wait_for_the_slowest_worker(width: int) -> None:
    """CAST-1: one worker is stopped, so the log's ring of text or its ring of entries becomes full.
    Senders wait, and nothing is lost when the worker continues."""
    with room("--workers", 2, "--quiet", *SMALL_LOG, *NEVER_SILENT) as here:
        speaker, sleeper = here.join_all(addresses(2))
        listener = here.join("127.0.0.9")
        sleeping = here.serving(sleeper)
        assert here.serving(speaker).pid == here.serving(listener).pid != sleeping.pid
        said = lines(speaker, MIB, width)
        heard = delivered(speaker, said)
        os.kill(sleeping.pid, signal.SIGSTOP)
        assert speaker.send_what_fits(b"".join(said)) == len(said) * width
        until(here.is_idle, "the log is full, and no process spins")
        waiting = listener.arrived()
        assert 0 < len(waiting) <= 64 * KIB
        os.kill(sleeping.pid, signal.SIGCONT)
        sleeper.expect(heard)
        listener.expect(heard)
        speaker.send("at last\n")
        sleeper.expect("<127.0.0.2>at last\n")


# --- slow readers --------------------------------------------------------------------------------


def test_a_member_that_does_not_read_delays_nobody() -> None:
    """LOAD-1: ncat --chat would freeze. LOAD-2: the member receives everything when it reads
    again."""
    options = ("--max-lag", "12M", "--log-size", "16M", "--quiet", *NEVER_SILENT, *UNLIMITED)
    with room("--workers", 2, *options) as here:
        speaker, listener = here.join_all(addresses(2))
        # One slow reader on each worker.
        slow = [here.join(source) for source in ("127.0.9.8", "127.0.9.9")]
        said = lines(speaker, 10 * MIB, 1000)
        heard = delivered(speaker, said)
        exchange({speaker: grouped(said, 64)}, {listener: len(heard)}, ahead=MIB)
        listener.expect(heard)
        # The slow readers lag far behind, but the others continue to exchange messages.
        for number in range(100):
            listener.send(f"{number}\n")
            speaker.expect(f"<127.0.0.3>{number}\n")
        heard += b"".join(b"<127.0.0.3>%d\n" % number for number in range(100))
        # While the slow readers catch up, the log wraps.
        more = lines(speaker, 8 * MIB, 1000)
        heard += delivered(speaker, more)
        exchange(
            {speaker: grouped(more, 8)},
            {listener: len(delivered(speaker, more)), slow[0]: len(heard), slow[1]: len(heard)},
            ahead=MIB,
        )
        for client in slow:
            client.expect(heard)


def test_a_member_that_lags_too_far_is_disconnected() -> None:
    """LOAD-2: the console reports this, and the other members receive everything."""
    with room("--workers", 2, *SMALL_LOG, *NEVER_SILENT) as here:
        speaker, listener = here.join_all(addresses(2))
        before = here.descriptors()
        slow = [here.join(source, receive_buffer=4096) for source in ("127.0.9.8", "127.0.9.9")]
        said = lines(speaker, MIB, 1000)
        heard = delivered(speaker, said)
        repeats = 0
        while here.descriptors() > before:
            exchange({speaker: grouped(said, 8)}, {listener: len(heard)}, ahead=48 * KIB)
            listener.expect(heard)
            repeats += 1
            assert repeats < 64, "the room never disconnects the slow readers"
        for client in slow:
            got = client.receive_rest()
            assert len(got) < repeats * len(heard)
            assert (heard * repeats).startswith(got)
        listener.send("and now?\n")
        speaker.expect("<127.0.0.3>and now?\n")
        printed = here.read_until("\n")
        for _ in slow:
            printed += here.read_until(" disconnected: lagged too far behind\n")
        for client in slow:
            assert f"\n{client.address} disconnected: lagged".encode() in printed


def test_a_member_that_lags_too_many_messages_is_disconnected() -> None:
    """LOAD-2: the lag is also limited in entries, because short messages use up entries first."""
    lag = ("--log-size", "512K", "--max-lag", "384K")  # a log with one entry per 256 bytes
    with room("--workers", 1, *lag, *NEVER_SILENT, *UNLIMITED) as here:
        speaker, listener = here.join_all(addresses(2))
        slow = here.join("127.0.9.9", receive_buffer=4096)
        said = lines(speaker, 64 * KIB, 1000)
        taken = [0]
        while len(taken) < 4 or taken[-1] > taken[-4]:
            speaker.send(b"".join(said))
            listener.expect(delivered(speaker, said))
            taken.append(here.unsent(slow))
        # The slow member's socket took nothing of the last three bursts of 64 KiB, but took some
        # bytes of the burst before them. So the member lags by less than 384 KiB.
        for _ in range(2048):
            speaker.send("x\n")
            listener.expect("<127.0.0.2>x\n")
        here.read_until("127.0.9.9 disconnected: lagged too far behind\n")
        slow.receive_rest()


def test_slow_readers_that_leave_release_their_resources() -> None:
    """LOAD-1, LEAVE-1: slow readers reset or close their connections while they lag far behind."""
    with room("--workers", 2, "--max-lag", "8M", "--quiet", *NEVER_SILENT, *UNLIMITED) as here:
        speaker, listener = here.join_all(addresses(2))
        before = here.descriptors()
        for leave in (Client.reset, Client.close, Client.finish, Client.reset):
            slow = [here.join(source, receive_buffer=4096) for source in ("127.0.9.8", "127.0.9.9")]
            said = lines(speaker, 4 * MIB, 2000)
            heard = delivered(speaker, said)
            exchange({speaker: grouped(said, 16)}, {listener: len(heard)}, ahead=MIB)
            listener.expect(heard)
            for client in slow:
                leave(client)
            until(lambda: here.descriptors() == before, "the slow readers' descriptors are closed")
        until(here.is_idle, "the room is idle")
        listener.send("still here\n")
        speaker.expect("<127.0.0.3>still here\n")


def test_the_memory_for_slow_readers_is_bounded() -> None:
    """LOAD-2: twenty members do not read, and the room's private memory does not grow."""
    with room("--workers", 2, "--quiet", *NEVER_SILENT, *UNLIMITED) as here:
        speaker, listener = here.join_all(addresses(2))
        here.join_all(addresses(22)[2:])
        said = lines(speaker, 2 * MIB, 1000)
        heard = delivered(speaker, said)
        exchange({speaker: grouped(said, 64)}, {listener: len(heard)}, ahead=MIB)
        memory = here.memory()
        for _ in range(3):
            exchange({speaker: grouped(said, 64)}, {listener: len(heard)}, ahead=MIB)
            listener.unread.clear()
        assert here.memory() - memory < 4 * MIB


def test_members_that_flood_and_do_not_read_are_disconnected() -> None:
    """LOAD-1, LOAD-2: two members that flood each other, and do not read, are disconnected."""
    with room("--workers", 2, *SMALL_LOG, *NEVER_SILENT) as here:
        client, other = here.join_all(addresses(2))
        mutes = here.join_all(["127.0.9.8", "127.0.9.9"])
        with suppress(ConnectionError):
            for number in itertools.count():
                for mute in mutes:
                    mute.send(b"shout\n" * 1000)
                # Send little at once, because these two members must also receive the floods
                # completely.
                client.send(f"{number}\n")
                other.receive_until(f"<127.0.0.2>{number}\n")
                other.send(f"{number}\n")
                client.receive_until(f"<127.0.0.3>{number}\n")
        client.send("peace\n")
        other.receive_until("<127.0.0.2>peace\n")
        other.send("at last\n")
        client.receive_until("<127.0.0.3>at last\n")
