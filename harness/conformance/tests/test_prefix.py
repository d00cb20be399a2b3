"""Tests of the section Prefix of PROTOCOL.md."""

from __future__ import annotations

import contextlib
import ipaddress
import itertools
import re
from collections.abc import Sequence

import pytest

from harness.clients.client import Client
from harness.clients.room import Room, expect, expect_equal, needs_ipv6
from harness.conformance.evidence import PROVED
from harness.errors import NotApplicable, StartError, Undecided, Violation
from harness.profile import ADDRESS, NAME, WRITTEN_PREFIX

FORGERIES = (
    b"one\n%stwo",
    b"one\r\n%stwo",
    b"one\r%stwo",
    b"one\x1b[2K\x1b[1G%stwo",
    b"one\x08\x08\x08%stwo",
    b"one\x0b%stwo",
    b"one\x0c%stwo",
    b"one\xe2\x80\xa8%stwo",
    b"one\xc2\x85%stwo",
)

LINE_ENDS = re.compile(rb"\r\n|[\n\r\x0b\x0c\x08\x1b]|\xe2\x80[\xa8\xa9]|\xc2\x85|\xc2\x9b")
"""Sequences that begin a line on some terminals, or move the cursor to a line's beginning."""


@pytest.mark.clause("PREFIX-1", PROVED)
async def test_a_message_has_its_prefix_right_before_it(room: Room) -> None:
    """A message is received on a line of its own, as `<`, a text, `>` and the message. In another
    dialect, the message is received right after the prefix of the profile."""
    written = room.profile.identity == ADDRESS
    shape = WRITTEN_PREFIX if written else room.profile.prefix
    due = b"<IP>" if written else shape.pattern
    speaker, listener = await room.join(2)
    for _ in range(3):
        prefix = await room.tell(speaker, listener)
        expect(
            shape.fullmatch(prefix),
            f"the prefix is not {due.decode(errors='replace')} right before the text",
            due,
            prefix,
        )


@pytest.mark.clause("PREFIX-2", PROVED)
async def test_the_prefix_is_the_sender_s_address(room: Room) -> None:
    """Three members connect from different addresses. The prefix of each member is its address. In
    another dialect, the prefix of each member identifies only this member, and is the same for all
    listeners, even after a member has left and another has joined."""
    if room.profile.identity == NAME:
        await _check_names(room)
        return
    if not room.target.local:
        raise Undecided("the addresses that the server sees are known only on loopback")
    members = await room.join(3)
    for speaker, listener in itertools.permutations(members, 2):
        prefix = await room.tell(speaker, listener)
        expect(
            _names(prefix, speaker.address),
            f"the prefix of {speaker} is not its address, {speaker.address}",
            speaker.address.encode(),
            prefix,
        )


async def _check_names(room: Room) -> None:
    """Check the names of three members. If the server assigns the names, check them again after a
    member has left and another has joined: the new member must not get a name that is in use."""
    members = await room.join(3)
    await _check_names_of(room, members)
    if members[0].identity is None:
        members += await room.join(1)
        leaver = members.pop(0)
        room.count_out(leaver)
        leaver.finish()
        await leaver.ends(room.window)
        async with room.undecided_if_deaf(*members):
            await _check_names_of(room, members + await room.join(1))


async def _check_names_of(room: Room, members: Sequence[Client]) -> None:
    known: dict[Client, bytes] = {}
    for speaker, listener in itertools.permutations(members, 2):
        prefix = await room.tell(speaker, listener)
        found = room.profile.sender(prefix)
        known_here = room.target.local or not room.profile.shows_address
        own = speaker.identity if known_here else None
        due = known.setdefault(speaker, own or found)
        expect(  # some servers capitalise names
            found.lower() == due.lower(), f"the prefix of {speaker} does not name it", due, found
        )
    for member, other in itertools.combinations(members, 2):
        expect(
            known[member].lower() != known[other].lower(),
            f"{member} and {other} have the same name",
            None,
            known[member],
        )


def _names(prefix: bytes, address: str) -> bool:
    """Return whether a prefix of any form contains this address, but not inside a longer one."""
    return (
        re.search(rb"(?<![\w.:])(?:::ffff:)?%s(?![\w.:])" % re.escape(address.encode()), prefix)
        is not None
    )


@pytest.mark.clause("PREFIX-3", PROVED)
async def test_addresses_are_written_in_their_shortest_form(room: Room) -> None:
    """A server is started at ::, and clients join from 127.0.0.1 and from ::1. The prefix has the
    first address as IPv4, and the second address in the form of RFC 5952."""
    needs_ipv6()
    try:
        server = room.another(host="::")
        listener = speaker = await room.enter(target=room.at(server, "::1"))
    except (StartError, Violation) as error:
        raise NotApplicable(
            f"the server does not serve IPv6, which JOIN-4 judges: {error}"
        ) from None
    speakers = [speaker]
    with contextlib.suppress(Violation):  # the server may serve only IPv6 at ::
        listener = await room.enter(target=room.at(server, "127.0.0.1"))
        speakers.append(await room.enter(target=room.at(server, "127.0.0.1")))
    if listener is speaker:
        listener = await room.enter(target=room.at(server, "::1"))
    for speaker in speakers:
        await room.greet(speaker, listener)
        prefix = await room.tell(speaker, listener)
        found = _addresses(prefix, speaker.port)
        due = str(ipaddress.ip_address(speaker.address)).encode()
        expect(found, "the prefix contains no address", due, prefix)
        expect_equal(f"the address {speaker.address} is not in its shortest form", due, found[0])


def _addresses(prefix: bytes, port: int) -> list[bytes]:
    """Return the addresses in a prefix as they are written, without the port that may follow."""
    found = []
    for text in re.findall(rb"[0-9A-Fa-f:.]+", prefix):
        address = text.rstrip(b":.").removesuffix(b":%d" % port)
        with contextlib.suppress(ValueError):  # a time, or letters of a name
            ipaddress.ip_address(address.decode())
            found.append(address)
    return found


@pytest.mark.clause("PREFIX-4", PROVED)
async def test_no_text_begins_a_line_with_another_s_prefix(room: Room) -> None:
    """A member sends another's prefix after each sequence that begins a line, or moves the cursor
    to a line's beginning. At each place where a terminal may begin a line, the sender's own prefix
    follows."""
    sender = room.profile.sender
    forger, victim, listener = await room.join(3)
    own = await room.tell(forger, listener)
    theirs = await room.tell(victim, listener)
    expect(
        sender(own) != sender(theirs), f"the prefixes of {forger} and {victim} are equal", None, own
    )
    expect(own.count(b"<") <= 1, "there is more than one prefix", None, own)
    for forgery in FORGERIES:
        await forger.say(forgery.replace(b"%s", theirs) + b"\n")
        [heard] = await room.barrier(forger, listener)
        for line in LINE_ENDS.split(room.plain(heard).removesuffix(b"\n")):
            expect(
                _begins_with(line, own, room),
                f"a line of {forger} does not begin with its prefix",
                own,
                heard,
            )


def _begins_with(line: bytes, own: bytes, room: Room) -> bool:
    """Return whether a line begins with a member's prefix `own`; a time in the prefix may
    differ."""
    if room.profile.identity == ADDRESS:
        return line.startswith(own)
    begin = room.profile.prefix.match(line)
    return begin is not None and room.profile.sender(begin[0]) == room.profile.sender(own)


@pytest.mark.clause("PREFIX-4", PROVED)
async def test_a_message_during_an_unfinished_line_begins_a_line(room: Room) -> None:
    """A member sends a line while another's line is unfinished. The member's line arrives with the
    member's prefix, on a line of its own."""
    sender = room.profile.sender
    speaker, other, listener = await room.join(3)
    prefix = await room.tell(other, listener)
    begun, word = room.tokens(2)
    await speaker.say(begun)
    # A server that does not claim LINE-5 may wait for the line end before it delivers the text.
    within = None if "LINE-5" in room.profile.claims else room.window
    begun_is_there = await listener.comes(begun, within)
    if begun_is_there:  # only the tests of LINE-5 require this
        await listener.hears(begun)
    await other.say(word + b"\n")
    heard = room.plain((await listener.hears_line(word)).removesuffix(word))
    found = heard.rpartition(b"\n")[2]
    expect(
        sender(found) == sender(prefix),
        f"the line of {other} does not begin with its prefix on a new line",
        prefix,
        found,
    )
    expect(
        heard.startswith((b"\n", b"\r\n")) or not begun_is_there,
        f"the line of {other} begins in the middle of another line",
        b"\n",
        heard,
    )
