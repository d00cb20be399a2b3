"""Each broken server has its defect, and the reference server does not have it.

A check is a function that returns True if the server has the defect. test_kill_matrix.py tests
which clauses a defect breaks.

The clients here are plain sockets, so that the harness's clients can't hide or cause a defect. A
default run takes a sample of the servers, because the kill matrix judges all of them in each run.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from harness.reference.broken import REGISTRY, WIDE
from harness.reference.hopeless import HOPELESS
from tests.harness.reference.targets import (
    QUIET,
    ROOT,
    WELCOME,
    Client,
    Target,
    dialect_of,
    named,
    room,
)
from tests.integration.waiting import PATIENCE

pytestmark = pytest.mark.matrix

Start = Callable[..., AbstractContextManager[Target]]
Check = Callable[[Start], bool]

KIB = 1024
MIB = 1024 * KIB
ALL_AT_ONCE = ("--rate", "1G", "--burst", "1G")


def fails(act: Callable[[], object]) -> bool:
    """Return True if `act` fails: a listener does not receive its text, or a connection ends."""
    try:
        act()
    except (AssertionError, OSError):
        return True
    return False


def talk(speaker: Client, *listeners: Client) -> bool:
    """Send a line; return True when all listeners have received it. A wait may last 2 s."""
    speaker.send(speaker.line(b"hello"))
    for listener in listeners:
        listener.socket.settimeout(2)
        listener.expect(speaker.prefix + speaker.line(b"hello"))
    return True


def says(*said: bytes, heard: bytes, pause: float = 0.0) -> Check:
    """Return a check with four members. Two of them send the texts `said` in turn.

    The defect shows if another member receives something other than `heard`.
    """

    def check(start: Start) -> bool:
        with start() as here:
            *speakers, _, listener = here.join_all(4)
            for number, piece in enumerate(said):
                speakers[number % 2].send(piece)
                if pause:
                    time.sleep(pause)
            return listener.hear_for(QUIET) != heard

    return check


def says_alone(said: bytes, heard: bytes) -> Check:
    """Return a check with two members. One of them sends `said`.

    The defect shows if the other member receives something other than `heard`.
    """

    def check(start: Start) -> bool:
        with start("--burst", "1M") as here:
            member, other = here.join_all(2)
            member.send(said)
            return other.hear_for(QUIET) != heard

    return check


# --- joining -------------------------------------------------------------------------------------


def sixty_joins(start: Start) -> bool:
    with start() as here:
        return fails(lambda: [here.join() for _ in range(60)])


def silent_connection(start: Start) -> bool:
    with start() as here:
        here.knock()
        other = here.knock()
        other.socket.settimeout(1)
        return fails(lambda: other.expect(WELCOME))


def early_reset(start: Start) -> bool:
    with start() as here:
        member, other = here.join_all(2)
        here.process.send_signal(signal.SIGSTOP)
        here.knock().reset()
        here.process.send_signal(signal.SIGCONT)
        return fails(lambda: talk(member, other))


def port_scan(start: Start) -> bool:
    with start() as here:
        member, other = here.join_all(2)
        here.knock().reset()
        return fails(lambda: [talk(*pair) for pair in [(member, other), (here.join(), other)]])


def reset_of_a_member(start: Start) -> bool:
    with start() as here:
        member, other = here.join_all(2)
        here.join().reset()
        return fails(lambda: [talk(*pair) for pair in [(member, other), (here.join(), other)]])


def reset_while_stopped(start: Start) -> bool:
    """Reset a member's connection, after lines of two others, while the server is stopped."""
    with start() as here:
        member, *others, leaver, last = here.join_all(5)
        here.process.send_signal(signal.SIGSTOP)
        for other in others:
            other.send(other.line(b"hello"))
        leaver.reset()
        here.process.send_signal(signal.SIGCONT)
        due = b"".join(other.prefix + other.line(b"hello") for other in others)
        for listener in (member, last):
            listener.socket.settimeout(2)

        def hear_and_talk() -> None:
            member.expect(due)
            last.expect(due)
            for other in others:
                talk(other, last)

        return fails(hear_and_talk)


def restart(start: Start) -> bool:
    with start() as here:
        clients = here.join_all(2)
        here.stop()
        here.clients.pop_all()
        with Target(*OPTIONS[start], port=here.port) as again:
            failed = again.line() == b""
        for client in clients:
            client.close()
        return failed


def ipv6(start: Start) -> bool:
    with start(host="::1") as here:
        return fails(lambda: here.join("::1"))


def full_room(start: Start) -> bool:
    with start("--max-clients", 1) as here:
        member = here.join("127.0.0.2")
        late = here.knock()
        late.socket.settimeout(3)
        failed = fails(lambda: late.expect(b"The room is full\n")) or fails(late.receive_rest)
        member.finish()
        member.receive_rest()
        return failed or fails(here.join)


# --- welcome, broadcast --------------------------------------------------------------------------


def welcome_of_a_newcomer(start: Start) -> bool:
    with start() as here:
        talker, witness = here.knock("127.0.0.2"), here.knock("127.0.0.3")
        witness.hear_for(QUIET)
        talker.send(b"first\n")
        witness.receive_until(b"first\n")
        return here.knock().hear_for(QUIET) != WELCOME


def welcomed_while_others_talk(start: Start) -> bool:
    with start() as here:
        member, other = here.join_all(2)
        newcomer = here.knock()
        member.send(b"first\n")
        other.expect(b"<127.0.0.2>first\n")
        heard = newcomer.hear_for(QUIET)
        return not heard.startswith(WELCOME)


def others_welcomed(start: Start) -> bool:
    with start() as here:
        member = here.join()
        here.join()
        return member.hear_for(QUIET) != b""


def message_after_the_welcome(start: Start) -> bool:
    with start() as here:
        member, other = here.join_all(2)
        return fails(lambda: talk(member, other))


def many_lines(start: Start) -> bool:
    with start("--burst", "1M") as here:
        member, other = here.join_all(2)
        numbers = [b"%d\n" % number for number in range(1010)]
        for number in numbers:
            member.send(number)
        return other.hear_for(QUIET) != b"".join(member.prefix + number for number in numbers)


def many_members(start: Start) -> bool:
    with start() as here:
        member, *others = here.join_all(10)
        member.send(b"x\n" * 80)
        return any(other.hear_for(QUIET) != b"<127.0.0.2>x\n" * 80 for other in others)


def order_of_one_sender(start: Start) -> bool:
    with start() as here:
        member, other, *_ = here.join_all(9)
        numbers = [b"%d\n" % number for number in range(40)]
        member.send(b"".join(numbers))
        return other.hear_for(QUIET) != b"".join(member.prefix + number for number in numbers)


def own_message(start: Start) -> bool:
    with start() as here:
        member, other = here.join_all(2)
        talk(member, other)
        return member.hear_for(QUIET) != b""


def common_order(start: Start) -> bool:
    with start() as here:
        member, other, *listeners = here.join_all(4)
        for _ in range(50):
            member.send(b"x\n")
            other.send(b"y\n")
        first, second = [listener.hear_for(QUIET) for listener in listeners]
        return first != second


def same_address(start: Start) -> bool:
    with start() as here:
        member, other = here.join(), here.join()
        return fails(lambda: [talk(member, other), talk(other, member)])


def another_address(start: Start) -> bool:
    with start() as here:
        members = [here.join("127.0.0.2"), here.join("127.0.0.2")]
        return fails(lambda: talk(here.join("127.0.0.3"), *members))


def leave_at_one_address(start: Start) -> bool:
    with start() as here:
        member, other, leaver = (here.join("127.0.0.2") for _ in range(3))
        talk(leaver, member, other)
        leaver.socket.shutdown(socket.SHUT_WR)
        while leaver.socket.recv(KIB):  # until the server has removed the member
            pass
        return fails(lambda: [talk(member, other), talk(other, member)])


def alone_in_the_room(start: Start) -> bool:
    with start() as here:
        member = here.join("127.0.0.2")
        member.send(b"anyone?\n")
        return member.hear_for(QUIET) != b"" or fails(lambda: talk(here.join(), member))


# --- prefix --------------------------------------------------------------------------------------


def mapped_prefix(start: Start) -> bool:
    with start(host="::") as here:
        return fails(lambda: talk(here.join("127.0.0.2"), here.join("127.0.0.3")))


def ipv6_prefix(start: Start) -> bool:
    with start(host="::1") as here:
        listener = here.join("::1")
        return fails(lambda: talk(here.join("::1"), listener))


def prefixes(start: Start) -> bool:
    with start() as here:
        member, other, third = here.join_all(3)
        return fails(
            lambda: (
                talk(member, other, third),
                talk(other, member, third),
                talk(third, member, other),
            )
        )


# --- messages, text ------------------------------------------------------------------------------


def line_end_for_its_sender(start: Start) -> bool:
    with start() as here:
        member, other = here.join_all(2)
        member.send(b"no end")
        other.expect(b"<127.0.0.2>no end")
        return fails(lambda: talk(other, member))


def line_in_pieces(start: Start) -> bool:
    with start() as here:
        member, other = here.join_all(2)
        for piece in (b"caf\xc3", b"\xa9 au", b" lait\n"):
            member.send(piece)
            time.sleep(0.02)  # shorter than the silence of LINE-5
        return other.hear_for(QUIET) != "<127.0.0.2>café au lait\n".encode()


def character_at(size: int) -> Check:
    """Return a check with a line in which a character of two bytes contains the byte `size`."""

    def check(start: Start) -> bool:
        with start() as here:
            member, other = here.join_all(2)
            text = b"x" * (size - 1) + b"\xc3\xa9"
            member.send(text + b"\n")
            return other.hear_for(QUIET) != b"<127.0.0.2>" + text + b"\n"

    return check


def not_utf8(start: Start) -> bool:
    with start() as here:
        member, other = here.join_all(2)
        member.send(b"caf\xe9\n")
        heard = other.hear_for(QUIET)
        failed = heard != "<127.0.0.2>caf\ufffd\n".encode()
        return failed or fails(lambda: talk(member, other))


def line_between_two_pieces(start: Start) -> bool:
    """Send a line of one member between the two pieces of a line of another member."""
    with start() as here:
        member, other, listener = here.join_all(3)
        for speaker, piece in (
            (member, b"hel"),
            (other, other.line(b"XX")),
            (member, member.line(b"lo")),
        ):
            speaker.send(piece)
            time.sleep(0.02)  # shorter than the silence of LINE-5
        due = other.prefix + other.line(b"XX") + member.prefix + member.line(b"hello")
        return listener.hear_for(QUIET) != due


# --- leaving -------------------------------------------------------------------------------------


def talk_after_a_leave(start: Start) -> bool:
    with start() as here:
        member, leaver, other, _ = here.join_all(4)
        leaver.finish()
        leaver.receive_rest()
        return fails(lambda: talk(member, other))


def join_after_all_left(start: Start) -> bool:
    with start() as here:
        last = here.join()
        last.finish()
        last.receive_rest()
        return fails(lambda: here.join_all(2))


def last_text_of_a_leaver(start: Start) -> bool:
    with start() as here:
        member, leaver = here.join_all(2)
        leaver.send(b"good\nbye")
        leaver.close()
        return member.hear_for(QUIET) != b"<127.0.0.3>good\n<127.0.0.3>bye"


GUESTS = 20


def costs_of_guests(start: Start) -> bool:
    with start() as here:
        member = here.join()
        before = (here.descriptors(), here.memory(), here.threads())
        for _ in range(GUESTS):
            here.join().close()
        deadline = time.monotonic() + 1
        while here.descriptors() > before[0]:
            if time.monotonic() > deadline:
                return True
            time.sleep(0.01)
        member.close()
        if here.memory() > before[1] + GUESTS * 150 * KIB or here.threads() > before[2]:
            return True
        # An empty room must be idle: here, it must use less than 0.05 s of CPU time in 3 s.
        spent, deadline = here.seconds(), time.monotonic() + 3
        while here.seconds() <= spent + 0.05:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.1)
        return True


def server_closes_its_side(start: Start) -> bool:
    with start() as here:
        member = here.join()
        member.finish()
        member.socket.settimeout(1)
        return fails(member.receive_rest)


def rejoin(start: Start) -> bool:
    with start() as here:
        member, other = here.join_all(2)
        talk(member, other)
        member.finish()
        member.receive_rest()
        return fails(lambda: talk(here.join("127.0.0.2"), other))


# --- load ----------------------------------------------------------------------------------------

LINES = (b"x" * 1023 + b"\n") * 1024


def speak(speaker: Client, text: bytes) -> threading.Thread:
    """Start a thread that sends the text. The thread ends early if the connection ends."""

    def say() -> None:
        with contextlib.suppress(OSError):
            speaker.send(text)

    thread = threading.Thread(target=say)
    thread.start()
    return thread


def hang_up(speaker: Client) -> None:
    """End the connection, so that the thread of `speak` ends."""
    with contextlib.suppress(OSError):
        speaker.socket.shutdown(socket.SHUT_RDWR)


def heard(listener: Client, size: int) -> bool:
    """Return True if `size` bytes arrive, with no silence longer than a second."""
    listener.socket.settimeout(1)
    with contextlib.suppress(TimeoutError):
        while len(listener.unread) < size and listener.receive():
            pass
    return len(listener.take(size)) == size


def slow_reader(megabytes: int, ends: bool) -> Check:
    """Return a check with a slow member, which does not read while a member sends `megabytes` MiB.

    ends: True if the server must disconnect the slow member, False if it must keep this member. The
    defect shows if the server does the opposite, or if it delays a third member.
    """

    def check(start: Start) -> bool:
        with start(*ALL_AT_ONCE) as here:
            member, other = here.join_all(2)
            slow = here.join("127.0.0.9", buffer=4096)
            before = here.descriptors()
            size = 1024 * (1024 + len(member.prefix))
            for _ in range(megabytes):
                saying = speak(member, LINES)
                if not heard(other, size):
                    hang_up(member)
                    saying.join()
                    return True
                saying.join()
            failed = (here.descriptors() < before) != ends
            slow.close()
            return failed

    return check


def join_beside_a_slow_reader(start: Start) -> bool:
    with start(*ALL_AT_ONCE) as here:
        member, other = here.join_all(2)
        slow = here.join("127.0.0.9", buffer=4096)
        for _ in range(6):  # MiB: more than the kernel keeps for the slow member
            saying = speak(member, LINES)
            heard(other, 1024 * (1024 + len(member.prefix)))
            saying.join()
        failed = fails(lambda: here.join("127.0.0.10"))
        slow.close()
        return failed


def flood(start: Start) -> bool:
    with start("--rate", "256K", "--burst", "256K") as here:
        member, other = here.join_all(2)
        began = time.monotonic()
        saying = speak(member, LINES[: 768 * KIB])
        whole = heard(other, 768 * (1024 + len(member.prefix)))
        took = time.monotonic() - began
        if not whole:
            hang_up(member)
        saying.join()
        return not whole or took < 1.5


def death_of_a_worker(start: Start) -> bool:
    """Kill the worker process, if the server has one (the reference server has none)."""
    with start() as here:
        member, other = here.join_all(2)
        children = Path(f"/proc/{here.process.pid}/task/{here.process.pid}/children").read_text()
        for child in map(int, children.split()):
            os.kill(child, signal.SIGKILL)
            assert member.receive_rest() == b""
            # Another worker must serve new members.
            talk(here.join("127.0.0.4"), here.join("127.0.0.5"))
        failed = fails(lambda: talk(member, other))
        assert here.stop() == 0
        return failed


# --- other dialects ------------------------------------------------------------------------------


def exchange(start: Start) -> bool:
    """Send lines of three members in another dialect, and check what each of them receives."""
    with start() as here:
        talkers = here.join_all(3)
        due = dict.fromkeys(talkers, b"")
        for speaker in talkers:
            for said in (b"  hi   there ", b"", b"a\rb"):
                text = said.replace(b"\r", "␍".encode())
                speaker.send(speaker.line(said))
                for listener in talkers:
                    if listener is not speaker:
                        due[listener] += speaker.prefix + speaker.line(text)
                    elif here.dialect == "echo":
                        due[listener] += b"you: " + speaker.line(text)
            listener = talkers[speaker is talkers[0]]
            with contextlib.suppress(TimeoutError):
                listener.socket.settimeout(1)
                while len(listener.unread) < len(due[listener]) and listener.receive():
                    pass
        return any(talker.hear_for(QUIET) != due[talker] for talker in talkers)


def crlf_welcomed(start: Start) -> bool:
    with start() as here:
        return here.knock().hear_for(QUIET) != WELCOME.replace(b"\n", b"\r\n")


def question_to_a_second_client(start: Start) -> bool:
    with start() as here:
        here.knock().expect(b"Your name? ")
        other = here.knock()
        other.socket.settimeout(1)
        return fails(lambda: other.expect(b"Your name? "))


def name_used_again(start: Start) -> bool:
    with start() as here:
        listener = here.join("127.0.0.2")
        for _ in range(2):
            guest = here.join("127.0.0.3")
            if fails(lambda: talk(guest, listener)):  # noqa: B023  (called at once)
                return True
            guest.finish()
            guest.receive_rest()
        return False


def crowd_of_echoes(start: Start) -> bool:
    with start() as here:
        talkers = here.join_all(10)
        talkers[0].send(b"hello\n")
        return any(other.hear_for(0.1) != b"<127.0.0.2>hello\n" for other in talkers[1:])


# --- the check of each broken server -------------------------------------------------------------

CONTROLS = "\x1b[2J \r \x85 \u202e \u2028\t.\n"
SHOWN = "<127.0.0.2>␛[2J ␍ \ufffd \ufffd \ufffd\t.\n"

plain = says_alone(b"hello\n", b"<127.0.0.2>hello\n")
spaces = says_alone(b"  Hello  World /quit \n", b"<127.0.0.2>  Hello  World /quit \n")
crlf = says_alone(b"a\r\nb\n", b"<127.0.0.2>a\n<127.0.0.2>b\n")
empty = says_alone(b"\n", b"<127.0.0.2>\n")
no_line_end = says_alone(b"no end", b"<127.0.0.2>no end")
message_after_no_line_end = says(
    b"no end", b"b\n", heard=b"<127.0.0.2>no end\n<127.0.0.3>b\n", pause=QUIET
)
two_lines = says_alone(b"a\nb\n", b"<127.0.0.2>a\n<127.0.0.2>b\n")
line_of_2048 = says_alone(b"x" * 2047 + b"\n", b"<127.0.0.2>" + b"x" * 2047 + b"\n")
long_line = says_alone(
    b"x" * 20_000 + b"\n",
    b"".join(b"<127.0.0.2>" + b"x" * size + b"\n" for size in (8192, 8192, 3616)),
)
UTF8 = "e\u0301 é 👩\u200d👧 \ufb01 𝕏\n"
utf8 = says_alone(UTF8.encode(), f"<127.0.0.2>{UTF8}".encode())
controls = says_alone(CONTROLS.encode(), SHOWN.encode())

CHECKS: dict[str, Check] = {
    "fifty-clients": sixty_joins,
    "stops-at-silence": silent_connection,
    "dies-of-an-early-reset": early_reset,
    "dies-of-a-port-scan": port_scan,
    "dies-of-a-reset": reset_of_a_member,
    "dies-of-sigpipe": reset_while_stopped,
    "dies-of-a-failed-send": reset_while_stopped,
    "stops-at-a-failed-send": reset_while_stopped,
    "silences-at-a-failed-send": reset_while_stopped,
    "no-reuseaddr": restart,
    "ipv4-only": ipv6,
    "refuses-in-silence": full_room,
    "refuses-without-end": full_room,
    "dies-when-full": full_room,
    "never-full": full_room,
    "no-welcome": welcome_of_a_newcomer,
    "welcome-twice": welcome_of_a_newcomer,
    "welcome-late": welcomed_while_others_talk,
    "last-words-first": welcome_of_a_newcomer,
    "greets-everyone": others_welcomed,
    "late-member": message_after_the_welcome,
    "welcome-without-lf": welcome_of_a_newcomer,
    "drops-1-in-1000": many_lines,
    "doubles-1-in-500": many_lines,
    "forgets-one": many_members,
    "echoes": own_message,
    "strips-spaces": spaces,
    "collapses-spaces": spaces,
    "lowercases": spaces,
    "obeys-commands": spaces,
    "swaps-neighbours": order_of_one_sender,
    "an-order-of-its-own": common_order,
    "tells-addresses": same_address,
    "one-per-address": same_address,
    "one-copy-per-address": another_address,
    "forgets-addresses": leave_at_one_address,
    "dies-alone": alone_in_the_room,
    "kicks-the-lonely": alone_in_the_room,
    "space-after-prefix": plain,
    "square-brackets": plain,
    "no-prefix": plain,
    "prefix-twice": plain,
    "user-numbers": prefixes,
    "port-in-prefix": prefixes,
    "always-localhost": prefixes,
    "receivers-address": prefixes,
    "latest-address": prefixes,
    "keeps-mapped": mapped_prefix,
    "long-ipv6": ipv6_prefix,
    "strips-lf": plain,
    "pictures-crlf": crlf,
    "keeps-crlf": crlf,
    "doubles-lf": plain,
    "reads-are-messages": two_lines,
    "impatient": line_in_pieces,
    "relays-reads": line_between_two_pieces,
    "relays-with-prefixes": line_between_two_pieces,
    "prefix-once-per-read": two_lines,
    "loses-empty-lines": empty,
    "waits-for-lf": no_line_end,
    "adds-lf": no_line_end,
    "runs-on": message_after_no_line_end,
    "shows-the-lf-to-its-sender": line_end_for_its_sender,
    "cuts-at-1024": line_of_2048,
    "loses-the-excess": long_line,
    "latin-1": utf8,
    "ascii-only": utf8,
    "drops-joiners": utf8,
    "normalises": utf8,
    "tears-characters": line_in_pieces,
    "tears-characters-at-2048": character_at(2048),
    "tears-characters-at-4096": character_at(4096),
    "dies-of-bad-bytes": not_utf8,
    "kicks-bad-bytes": not_utf8,
    "passes-bad-bytes": not_utf8,
    "ignores-bad-bytes": not_utf8,
    "passes-controls": controls,
    "passes-cr": controls,
    "passes-bidi": controls,
    "passes-separators": controls,
    "passes-c1": controls,
    "drops-controls": controls,
    "pictures-tabs": controls,
    "dies-when-empty": join_after_all_left,
    "skips-after-leave": talk_after_a_leave,
    "drops-last-words": last_text_of_a_leaver,
    "drops-the-unfinished": last_text_of_a_leaver,
    "leaks-sockets": costs_of_guests,
    "leaks-threads": costs_of_guests,
    "spins-after-leave": costs_of_guests,
    "keeps-a-megabyte": costs_of_guests,
    "keeps-200-kib": costs_of_guests,
    "keeps-threads": costs_of_guests,
    "keeps-its-side-open": server_closes_its_side,
    "closes-late": server_closes_its_side,
    "bans-who-comes-back": rejoin,
    "blocking-sends": slow_reader(12, True),
    "joins-wait-for-the-slow": join_beside_a_slow_reader,
    "unbounded-queue": slow_reader(12, True),
    "drops-for-the-slow": slow_reader(12, True),
    "kicks-flooders": flood,
    "loses-the-flood": flood,
    "no-allowance": flood,
    "twice-its-rate": flood,
    "one-worker": death_of_a_worker,
    "names-in-the-accept-loop": question_to_a_second_client,
    "names-relays-reads": line_between_two_pieces,
    "names-dies-of-sigpipe": reset_while_stopped,
    "names-keeps-200-kib": costs_of_guests,
    "names-of-the-latest": exchange,
    "names-of-receivers": exchange,
    "names-overwritten": exchange,
    "names-echoed": exchange,
    "names-greet-everyone": others_welcomed,
    "names-are-taken-forever": name_used_again,
    "crlf-relays-reads": line_between_two_pieces,
    "crlf-dies-of-sigpipe": reset_while_stopped,
    "crlf-keeps-200-kib": costs_of_guests,
    "crlf-becomes-lf": exchange,
    "crlf-after-an-lf-welcome": crlf_welcomed,
    "crlf-loses-empty-lines": exchange,
    "crlf-strips-spaces": exchange,
    "echo-relays-reads": line_between_two_pieces,
    "echo-dies-of-sigpipe": reset_while_stopped,
    "echo-keeps-200-kib": costs_of_guests,
    "echo-fails": exchange,
    "echo-of-an-echo": exchange,
    "echo-like-any-message": exchange,
    "echo-to-one-more": crowd_of_echoes,
}

#: Command-line options of the server that each `start` function starts.
OPTIONS: dict[Start, tuple[str, ...]] = {}


@pytest.mark.sample(24)
@pytest.mark.parametrize("name", named(REGISTRY))
def test_a_broken_server_has_its_defect(name: str) -> None:
    @contextlib.contextmanager
    def start(*options: object, host: str = "127.0.0.1", port: int = 0) -> Iterator[Target]:
        with room("--broken", name, *options, host=host, port=port) as target:
            yield target

    OPTIONS[start] = ("--broken", name)
    assert CHECKS[name](start)


@pytest.mark.sample(12)
@pytest.mark.parametrize(
    "name",
    named({(check, dialect_of("--broken", name)): name for name, check in CHECKS.items()}.values()),
)
def test_the_reference_server_has_no_defect(name: str) -> None:
    dialect = dialect_of("--broken", name)
    options = ("--dialect", dialect) if dialect else ()

    @contextlib.contextmanager
    def start(*more: object, host: str = "127.0.0.1", port: int = 0) -> Iterator[Target]:
        with room(*options, *more, host=host, port=port) as target:
            yield target

    OPTIONS[start] = options
    assert not CHECKS[name](start)


# --- the registry --------------------------------------------------------------------------------


def clauses() -> set[str]:
    page = (ROOT / "PROTOCOL.md").read_text(encoding="utf-8")
    return set(re.findall(r"^\| ([A-Z]+-\d+) \| (?:MUST|SHOULD) \|", page, re.MULTILINE))


def test_each_clause_is_broken_by_a_server_that_breaks_few_others() -> None:
    fewest = {
        clause: min(len(names) for _, names in REGISTRY.values() if clause in names)
        for clause in set().union(*(names for _, names in REGISTRY.values()))
    }
    lines = {clause for clause in clauses() if not clause.startswith("WS-")}  # see test_gateways
    assert set(fewest) == lines
    assert {clause: fewest[clause] for clause in fewest if fewest[clause] > 2} == {}


def test_each_server_has_a_check_and_a_description() -> None:
    assert set(CHECKS) == set(REGISTRY)
    assert set(REGISTRY) >= WIDE
    for name, (kind, names) in REGISTRY.items():
        assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name)
        assert names
        assert kind.__doc__
        assert kind.__doc__.split("\n")[0].endswith("."), name


def test_the_list_names_all_servers() -> None:
    listed = subprocess.run(
        [sys.executable, "-m", "harness.reference", "--list"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=PATIENCE,
    ).stdout
    assert [line.split()[0] for line in listed.splitlines()] == [*REGISTRY, *HOPELESS]
