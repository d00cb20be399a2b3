"""The reference server keeps every clause of PROTOCOL.md except LOAD-4."""

from __future__ import annotations

import signal
import socket
import threading
import time
from collections.abc import Callable

import pytest

from tests.harness.reference.targets import QUIET, WELCOME, Client, Target, room
from tests.integration.waiting import PATIENCE

KIB = 1024
MIB = 1024 * KIB


def wait_for(condition: Callable[[], bool]) -> None:
    """Poll a condition until it is true. (A change in /proc causes no event.)"""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def barrier(speaker: Client, *listeners: Client) -> None:
    """Send a line, and check that the listeners receive nothing else before it."""
    speaker.send(b"that is all\n")
    for listener in listeners:
        listener.expect(speaker.prefix + b"that is all\n")


# --- joining -------------------------------------------------------------------------------------


def test_100_clients_connect_at_once() -> None:
    """JOIN-1, WELCOME-1 to WELCOME-4, CAST-1: all clients connect while the server is stopped."""
    with room() as here:
        here.process.send_signal(signal.SIGSTOP)
        crowd = [here.knock(f"127.0.0.{number}") for number in range(1, 101)]
        here.process.send_signal(signal.SIGCONT)
        for member in crowd:
            member.expect(WELCOME)
        crowd[7].send(b"hello\n")
        for member in crowd:
            if member is not crowd[7]:
                member.expect(b"<127.0.0.8>hello\n")
        barrier(crowd[0], *crowd[1:])


@pytest.mark.parametrize("before", [True, False])
def test_silent_and_reset_connections_disturb_nobody(before: bool) -> None:
    """JOIN-2: connections are reset before or after the server accepts them."""
    with room() as here:
        member, other = here.join_all(2)
        here.knock("127.0.0.7")
        if before:
            here.process.send_signal(signal.SIGSTOP)
        for _ in range(20):
            knocking = here.knock("127.0.0.9") if before else here.join("127.0.0.9")
            knocking.reset()
        here.process.send_signal(signal.SIGCONT)
        barrier(member, other)


def test_the_server_restarts_at_once_on_its_port() -> None:
    """JOIN-3; SIGTERM ends the server with status 0."""
    port = 0
    for _ in range(3):
        with room(port=port) as here:
            port = here.port
            member, other = here.join_all(2)
            barrier(member, other)
            assert here.stop() == 0
            assert member.receive_rest() == b""
            here.clients.pop_all()  # the server closes first, not the clients
            member.close()
            other.close()


def test_sigint_ends_the_server_with_status_0() -> None:
    with room() as here:
        here.process.send_signal(signal.SIGINT)
        assert here.process.wait(10) == 0
        assert here.errors() == b""


@pytest.mark.parametrize("host", ["::1", "::"])
def test_ipv6(host: str) -> None:
    """JOIN-4, PREFIX-3: an IPv4 member of a server at `::` has an IPv4 prefix."""
    with room(host=host) as here:
        assert here.host == f"[{host}]"
        member, other = here.join("::1"), here.join("::1")
        barrier(member, other)
        if host == "::":
            ipv4 = here.join("127.0.0.5")
            barrier(ipv4, member, other)
            barrier(other, member, ipv4)


def test_a_full_room() -> None:
    """JOIN-5."""
    with room("--max-clients", 2) as here:
        member, other = here.join_all(2)
        for text in (b"", b"hello\n"):
            late = here.knock()
            late.send(text)
            assert late.receive_rest() == b"The room is full\n"
        barrier(member, other)
        member.finish()
        member.receive_rest()
        third = here.join()
        barrier(other, third)


# --- broadcast -----------------------------------------------------------------------------------


def test_every_message_arrives_once_and_in_one_order() -> None:
    """CAST-1 to CAST-5."""
    with room() as here:
        *speakers, witness, other = here.join_all(5)
        for number in range(300):
            for speaker in speakers:
                speaker.send(b"%d\n" % number)
        heard = b"".join(witness.receive_until(b"\n") for _ in range(900))
        other.expect(heard)
        for speaker in speakers:
            own = [line for line in heard.splitlines(True) if line.startswith(speaker.prefix)]
            assert own == [speaker.prefix + b"%d\n" % number for number in range(300)]
            speaker.expect(b"".join(line for line in heard.splitlines(True) if line not in own))
        barrier(witness, *speakers, other)


def test_two_members_at_one_address_hear_each_other() -> None:
    """CAST-6, CAST-7."""
    with room() as here:
        member = here.join()
        member.send(b"anyone?\n")
        member.send(b"no end")
        assert member.hear_for(QUIET) == b""
        other = here.join()
        barrier(member, other)
        barrier(other, member)


def test_urgent_text_is_text() -> None:
    """CAST-3."""
    with room() as here:
        member, other = here.join_all(2)
        member.send(b"a")
        member.socket.send(b"b", socket.MSG_OOB)
        member.send(b"c\n")
        other.expect(b"<127.0.0.2>abc\n")


# --- messages ------------------------------------------------------------------------------------

A = "é🍜\u0301ẞ".encode()
LONG = b"x" * 8192

WHOLE = [
    # (bytes sent, messages received)
    (b"hello\n", [b"hello\n"]),
    (b"\n\n", [b"\n", b"\n"]),
    (b"a\r\nb\r\r\n\rc\n", [b"a\n", "b␍\n".encode(), "␍c\n".encode()]),
    (b"one\ntwo\n\nthree\n", [b"one\n", b"two\n", b"\n", b"three\n"]),
    (A + b"\t <>&%s\\n\n", [A + b"\t <>&%s\\n\n"]),
    (b"  spaces  \n", [b"  spaces  \n"]),
    (b"\xff \xc3\n\xe2\x82\n", ["\ufffd \ufffd\n".encode(), "\ufffd\n".encode()]),
    (b"\x00\x1b[2J\x7f\n", ["␀␛[2J␡\n".encode()]),
    ("\x80\x85\x9f\u061c\u200e\u202a\u202e\u2066\u2069\u2028\u2029\n".encode(),
     [("\ufffd" * 11 + "\n").encode()]),
    ("\u200d\u2027\u202f\u2065\n".encode(), ["\u200d\u2027\u202f\u2065\n".encode()]),
    (b"\r<127.0.0.9>forged\n", ["␍<127.0.0.9>forged\n".encode()]),
    (b"y" * 2048 + b"\n", [b"y" * 2048 + b"\n"]),
    (LONG + b"\n", [LONG + b"\n"]),
    (LONG + b"\r\n", [LONG + b"\n"]),
    (LONG + b"z\n", [LONG + b"\n", b"z\n"]),
    (LONG[1:] + "é\n".encode(), [LONG[1:] + b"\n", "é\n".encode()]),
    (LONG * 3 + b"\n", [LONG + b"\n"] * 3),
]  # fmt: skip


@pytest.mark.parametrize("step", [1, 3, 1 << 20])
def test_messages_arrive_framed_sanitised_and_prefixed(step: int) -> None:
    """LINE-1 to LINE-4, LINE-7, TEXT-1 to TEXT-3, PREFIX-1, PREFIX-4: lines whole or in pieces."""
    with room("--burst", MIB, "--flush-after", 60) as here:  # so no pause counts as a silence
        member, other = here.join_all(2)
        for said, messages in WHOLE:
            for start in range(0, len(said), step):
                member.send(said[start : start + step])
            other.expect(b"".join(member.prefix + message for message in messages))
        barrier(member, other)
        barrier(other, member)


def test_text_without_a_line_end_is_delivered() -> None:
    """LINE-5, LINE-6: the server ends an unfinished line before the next message. The sender of the
    line, and members that joined after it, do not receive this LF."""
    with room() as here:
        member, other, third = here.join_all(3)
        member.send(b"who is")
        for listener in (other, third):
            listener.expect(b"<127.0.0.2>who is")
            assert listener.hear_for(QUIET) == b""
        late = here.join("127.0.0.9")
        other.send(b"me\n")
        member.expect(b"<127.0.0.3>me\n")
        other.expect(b"\n")
        third.expect(b"\n<127.0.0.3>me\n")
        late.expect(b"<127.0.0.3>me\n")
        member.send(b"a")
        other.expect(b"<127.0.0.2>a")
        member.send(b"b")
        other.expect(b"\n<127.0.0.2>b")
        member.send(b"\n")
        other.expect(b"\n<127.0.0.2>\n")
        barrier(third, member, other)


def test_an_incomplete_character_or_cr_lf_waits_for_the_rest() -> None:
    """LINE-2, TEXT-1: the server waits for the rest even after the silence of LINE-5."""
    with room() as here:
        member, other = here.join_all(2)
        member.send(b"caf\xc3")
        other.expect(b"<127.0.0.2>caf")
        assert other.hear_for(QUIET) == b""
        member.send(b"\xa9\r")
        other.expect("\n<127.0.0.2>é".encode())
        assert other.hear_for(QUIET) == b""
        member.send(b"\n")
        other.expect(b"\n<127.0.0.2>\n")


# --- leaving -------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", [Client.close, Client.reset, Client.finish])
def test_the_last_text_of_a_leaver_is_delivered(way: object) -> None:
    """LEAVE-1, LEAVE-2, LEAVE-4, LEAVE-5."""
    assert callable(way)
    with room() as here:
        member, other = here.join_all(2)
        for said, heard in [
            (b"one\ntwo", b"<127.0.0.9>one\n<127.0.0.9>two"),
            (b"caf\xc3", "<127.0.0.9>caf\ufffd".encode()),
            (b"end\r", "<127.0.0.9>end␍".encode()),
            (b"", b""),
        ]:
            leaver = here.join("127.0.0.9")
            leaver.send(said)
            way(leaver)
            if way is Client.finish:
                assert leaver.receive_rest() == b""
            other.expect(heard)
            member.send(b"gone\n")
            other.expect((b"\n" if heard else b"") + b"<127.0.0.2>gone\n")


def test_resources_of_members_that_left_are_released() -> None:
    """LEAVE-3: descriptors, memory and CPU time."""
    with room() as here:
        member, other = here.join_all(2)
        before = here.descriptors()
        memory = 0
        for _ in range(6):
            for way in (Client.close, Client.reset, Client.finish):
                for number in range(10, 30):
                    guest = here.join(f"127.0.0.{number}")
                    guest.send(b"a" * 1000 + b"\n")
                    guest.send(b"b" * 1000)
                    way(guest)
                    guest.close()
                    other.receive_until(b"b" * 1000)
                    member.receive_until(b"b" * 1000)
                member.send(b"gone\n")
                other.expect(b"\n<127.0.0.2>gone\n")
                member.expect(b"\n")
            memory = memory or here.memory()
        wait_for(lambda: here.descriptors() == before)
        assert here.memory() - memory < MIB
        member.close()
        other.close()
        wait_for(lambda: here.descriptors() == before - 2)
        spent = here.seconds()
        time.sleep(1)  # measures CPU time; longer than the silence of LINE-5
        assert here.seconds() - spent < 0.1


# --- load ----------------------------------------------------------------------------------------

LINES = (b"x" * 1023 + b"\n") * 1024
SAID = b"".join(b"<127.0.0.2>" + line for line in LINES.splitlines(True))


def speak(speaker: Client, text: bytes) -> threading.Thread:
    """Start a thread that sends the text. The caller must join it."""
    thread = threading.Thread(target=speaker.send, args=(text,))
    thread.start()
    return thread


def test_a_slow_reader_delays_nobody_and_is_disconnected() -> None:
    """LOAD-1, LOAD-2."""
    with room("--rate", "1G", "--burst", "1G") as here:
        member, other = here.join_all(2)
        slow = here.join("127.0.0.9", buffer=4096)
        before, memory = here.descriptors(), here.memory()
        for _ in range(12):
            saying = speak(member, LINES)
            other.expect(SAID)
            saying.join()
        assert here.descriptors() == before - 1
        assert here.memory() - memory < 12 * MIB
        assert len(slow.receive_rest()) < 10 * MIB
        barrier(member, other)
        barrier(here.join("127.0.0.9"), member, other)


def test_a_member_that_lags_a_little_receives_everything() -> None:
    """LOAD-2."""
    with room("--rate", "1G", "--burst", "1G") as here:
        member, other = here.join_all(2)
        slow = here.join("127.0.0.9", buffer=4096)
        for _ in range(3):
            saying = speak(member, LINES)
            other.expect(SAID)
            saying.join()
        for _ in range(3):
            slow.expect(SAID)
        barrier(member, slow)


def test_a_flood_is_throttled_and_loses_nothing() -> None:
    """LOAD-3: the flood of one member does not delay another member."""
    with room("--rate", "256K", "--burst", "512K") as here:
        member, other, third = here.join_all(3)
        began = time.monotonic()
        saying = speak(member, LINES)
        third.send(b"excuse me\n")
        member.expect(b"<127.0.0.4>excuse me\n")
        heard = bytearray()
        while len(heard) < len(SAID):
            heard += other.receive_until(b"\n")
        saying.join()
        took = time.monotonic() - began
        third.expect(SAID)
        heard += other.hear_for(QUIET)
        assert heard.replace(b"<127.0.0.4>excuse me\n", b"") == SAID
        # The other member's line arrived during the flood, not after its throttled part.
        assert heard.index(b"<127.0.0.4>excuse me\n") < len(SAID) * 3 // 4
        # 1 MiB at 256 KiB/s; the first 512 KiB are not throttled.
        assert 1.9 < took < 10
        member.send(b"no end")
        other.expect(b"<127.0.0.2>no end")


def test_a_throttled_line_is_not_cut_by_silence() -> None:
    """LINE-2: the throttle (LOAD-3) delays a piece for longer than the silence of LINE-5."""
    with room("--rate", "100", "--burst", "50") as here:
        member, other = here.join_all(2)
        member.send(b"a" * 150 + b"\n")
        other.expect(b"<127.0.0.2>" + b"a" * 150 + b"\n")


# --- the command ---------------------------------------------------------------------------------


def test_the_server_prints_nothing_by_default() -> None:
    with room() as here:
        member, other = here.join_all(2)
        barrier(member, other)
        member.reset()
        here.stop()
        assert here.process.communicate(timeout=10) == (b"", b"")


def test_a_port_in_use_is_an_error_of_one_line() -> None:
    with room() as here, Target(port=here.port) as second:
        assert second.line() == b""
        assert second.errors().count(b"\n") == 1
        assert second.process.returncode == 1
