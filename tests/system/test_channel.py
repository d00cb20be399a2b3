"""Tests of the channel between the main process and a child."""

import contextlib
import errno
import os
import select
import socket
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis.strategies import integers, lists, one_of, sampled_from, tuples

from chatroom.system import channel as channel_module
from chatroom.system.channel import MAX_DESCRIPTORS, MAX_RECORD, Channel, ChannelClosed, Record

Ends = tuple[Channel, Channel]


@pytest.fixture(params=["SOCK_SEQPACKET", "SOCK_DGRAM"], name="ends")
def fixture_ends(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ends]:
    """Yield both ends of a channel, of each kind: the one for Linux and the one for macOS."""
    if sys.platform == "darwin" and request.param == "SOCK_SEQPACKET":
        pytest.skip("no such sockets on this system")
    kind = getattr(socket, request.param)
    monkeypatch.setattr(channel_module, "KIND", kind)
    ends = Channel.pair()
    assert ends[0].socket.type == ends[1].socket.type == kind
    yield ends
    for end in ends:
        end.close()


@pytest.fixture(name="seqpacket")
def fixture_seqpacket() -> Iterator[Ends]:
    """Yield a channel that reports the close of its other end (SEQPACKET)."""
    if sys.platform == "darwin":
        pytest.skip("no such sockets on this system")
    ends = Channel.pair()
    yield ends
    for end in ends:
        end.close()


def received(end: Channel) -> list[Record]:
    records = []
    for record, descriptors in end.receive():
        assert not descriptors
        records.append(record)
    return records


def last_words(end: Channel) -> list[Record]:
    """Return the waiting records of a channel whose other end is closed."""
    records = []
    with contextlib.suppress(ChannelClosed):
        for record, _ in end.receive():
            records.append(record)
        pytest.fail("the channel has not ended")
    return records


def readable(source: Any) -> bool:
    return bool(select.select([source], [], [], 0)[0])


def fill(end: Channel) -> int:
    """Send records until one must wait; return the number of records sent before it."""
    sent = 0
    while not end.backlog:
        end.send({"number": sent, "padding": "x" * 1000})
        sent += 1
    return sent


def numbers(records: list[Record]) -> list[int]:
    return [record["number"] for record in records]


# --- records -------------------------------------------------------------------------------------


def test_records_arrive_one_by_one_and_in_order(ends: Ends) -> None:
    ours, theirs = ends
    sent: list[Record] = [
        {"adopt": 1, "address": "::1"},
        {},
        {"left": [[1, "closed"]]},
        {"welcome": "wörld\n"},
    ]
    for record in sent:
        ours.send(record)
    assert readable(theirs)
    assert received(theirs) == sent
    assert not readable(theirs)
    assert received(theirs) == []


def test_both_ends_send_and_receive(ends: Ends) -> None:
    ours, theirs = ends
    ours.send({"stop": True})
    theirs.send({"ready": True})
    assert received(theirs) == [{"stop": True}]
    assert received(ours) == [{"ready": True}]


def test_the_largest_record_arrives_whole(ends: Ends) -> None:
    ours, theirs = ends
    record = {"x": "y" * (MAX_RECORD - len('{"x": ""}'))}
    ours.send(record)
    assert received(theirs) == [record]


def test_a_record_beyond_the_limit_raises_an_error(ends: Ends) -> None:
    ours, theirs = ends
    ours.send({"x": "y" * (MAX_RECORD - len('{"x": ""}') + 1)})
    with pytest.raises(RuntimeError, match="a record was truncated"):
        received(theirs)


def test_the_descriptors_of_a_truncated_record_are_closed(ends: Ends) -> None:
    ours, theirs = ends
    reading, writing = os.pipe()
    ours.send({"x": "y" * MAX_RECORD}, [writing])
    os.close(writing)
    with pytest.raises(RuntimeError, match="a record was truncated"):
        received(theirs)
    os.set_blocking(reading, False)
    assert os.read(reading, 1) == b""  # no writer is left
    os.close(reading)


# --- descriptors ---------------------------------------------------------------------------------


def test_descriptors_arrive_with_their_record_and_in_order(ends: Ends) -> None:
    ours, theirs = ends
    pipes = [os.pipe() for _ in range(3)]
    ours.send({"adopt": 1}, [pipes[0][0]])
    ours.send({"drain": True})
    ours.send({"adopt": 2}, [pipes[1][0], pipes[2][0]])
    for number, (_, writer) in enumerate(pipes):
        os.write(writer, b"%d" % number)
    records, descriptors = zip(*theirs.receive(), strict=True)
    assert records == ({"adopt": 1}, {"drain": True}, {"adopt": 2})
    first, none, others = descriptors
    assert none == []
    assert [os.read(fd, 9) for fd in (*first, *others)] == [b"0", b"1", b"2"]
    assert not {*first, *others} & {fd for pipe in pipes for fd in pipe}, "they have new numbers"
    for fd in (*first, *others, *(fd for pipe in pipes for fd in pipe)):
        os.close(fd)


def test_received_descriptors_are_not_inherited(ends: Ends) -> None:
    ours, theirs = ends
    reader, writer = os.pipe()
    os.set_inheritable(reader, True)
    ours.send({}, [reader])
    ((_, (arrived,)),) = theirs.receive()
    assert not os.get_inheritable(arrived)
    for fd in (reader, writer, arrived):
        os.close(fd)


def test_a_record_may_carry_the_maximum_number_of_descriptors(ends: Ends) -> None:
    ours, theirs = ends
    ours.send({}, [ours.fileno()] * MAX_DESCRIPTORS)
    ((_, arrived),) = theirs.receive()
    assert len(arrived) == MAX_DESCRIPTORS
    for fd in arrived:
        os.close(fd)


# --- full ----------------------------------------------------------------------------------------


def test_records_for_a_full_channel_wait_without_blocking(ends: Ends) -> None:
    ours, theirs = ends
    sent = fill(ours)
    for number in range(sent, sent + 10):
        ours.send({"number": number})
    assert ours.backlog == 11
    ours.flush()
    assert ours.backlog == 11, "the channel is still full"
    arrived = numbers(received(theirs))
    assert arrived == [*range(sent - 1)]
    ours.flush()
    assert ours.backlog == 0
    assert numbers(received(theirs)) == [*range(sent - 1, sent + 10)]


def test_a_record_does_not_overtake_waiting_ones(ends: Ends) -> None:
    ours, theirs = ends
    sent = fill(ours)
    arrived = numbers(received(theirs))
    ours.send({"number": sent})  # The channel now has space for it.
    ours.flush()
    assert arrived + numbers(received(theirs)) == [*range(sent + 1)]


def test_descriptors_wait_with_their_record(ends: Ends) -> None:
    ours, theirs = ends
    reader, writer = os.pipe()
    fill(ours)
    ours.send({"number": -1}, [reader])
    received(theirs)
    ours.flush()
    *_, (record, (arrived,)) = theirs.receive()
    assert record == {"number": -1}
    os.write(writer, b"hello")
    assert os.read(arrived, 9) == b"hello"
    for fd in (reader, writer, arrived):
        os.close(fd)


@given(
    lists(
        one_of(
            tuples(sampled_from(["send"]), sampled_from([1, 2, 300])),
            tuples(sampled_from(["flush", "receive"]), integers(0, 0)),
        ),
        max_size=8,
    )
)
@settings(max_examples=30)
def test_no_record_is_lost_doubled_or_reordered(steps: list[tuple[str, int]]) -> None:
    ours, theirs = Channel.pair()
    try:
        sent, arrived = 0, []
        for action, count in steps:
            if action == "send":
                for number in range(sent, sent + count):
                    ours.send({"number": number})
                sent += count
            elif action == "flush":
                ours.flush()
            else:
                arrived += numbers(received(theirs))
        while ours.backlog:
            arrived += numbers(received(theirs))
            ours.flush()
        arrived += numbers(received(theirs))
        assert arrived == [*range(sent)]
    finally:
        ours.close()
        theirs.close()


# --- the end -------------------------------------------------------------------------------------


def test_the_end_is_reported_after_the_last_record(seqpacket: Ends) -> None:
    ours, theirs = seqpacket
    theirs.send({"left": [[1, "closed"]]})
    theirs.close()
    assert readable(ours)
    assert last_words(ours) == [{"left": [[1, "closed"]]}]


def test_the_last_records_arrive_from_an_end_that_did_not_read(seqpacket: Ends) -> None:
    ours, theirs = seqpacket
    ours.send({"adopt": 1})
    theirs.send({"left": [[1, "closed"]]})
    theirs.send({"left": [[2, "closed"]]})
    theirs.close()
    assert last_words(ours) == [{"left": [[1, "closed"]]}, {"left": [[2, "closed"]]}]
    assert last_words(ours) == []


def test_a_send_to_a_closed_end_is_an_error(ends: Ends) -> None:
    ours, theirs = ends
    theirs.close()
    with pytest.raises(ChannelClosed):
        ours.send({"stop": True})
    with pytest.raises(ChannelClosed):
        ours.flush()


def test_a_flush_to_a_closed_end_is_an_error(seqpacket: Ends) -> None:
    ours, theirs = seqpacket
    fill(ours)
    theirs.close()
    ours.send({"number": -1})  # This record waits behind earlier records.
    with pytest.raises(ChannelClosed):
        ours.flush()


def test_a_broken_channel_counts_as_closed(ends: Ends) -> None:
    ours, _ = ends
    ours.socket.close()
    with pytest.raises(ChannelClosed):
        received(ours)


def test_a_closed_channel_has_no_waiting_records(ends: Ends) -> None:
    ours, _ = ends
    fill(ours)
    ours.close()
    assert ours.backlog == 0
    assert ours.fileno() == -1


@pytest.mark.parametrize("number", [errno.EAGAIN, errno.ENOBUFS])
def test_a_record_waits_for_a_full_channel_with_either_error(
    number: int, ends: Ends, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ENOBUFS is the error of datagram sockets on macOS."""

    class Full(socket.socket):
        def send(self, *_: Any) -> int:
            raise OSError(number, os.strerror(number))

    ours, theirs = ends
    ours.socket = Full(fileno=ours.socket.detach())
    ours.send({"number": 1})
    assert ours.backlog == 1
    ours.socket = socket.socket(fileno=ours.socket.detach())
    ours.flush()
    assert received(theirs) == [{"number": 1}]


@pytest.mark.parametrize("number", [errno.ETOOMANYREFS, errno.ENOMEM])
def test_a_record_waits_while_the_system_refuses_it(
    number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For example, many workers start at the same time, and the limit of descriptors in flight is
    low."""
    ours, theirs = Channel.pair()

    def refuse(*arguments: object) -> int:
        raise OSError(number, os.strerror(number))

    with contextlib.closing(ours), contextlib.closing(theirs):
        with monkeypatch.context() as many:
            many.setattr(socket, "send_fds", refuse)
            ours.send({"here": 1}, [ours.fileno()])
            assert ours.backlog == 1
            assert ours.refused
        ours.flush()
        assert (ours.backlog, ours.refused) == (0, False)
        ((record, (descriptor,)),) = theirs.receive()
        assert record == {"here": 1}
        os.close(descriptor)


def test_a_record_that_cannot_be_sent_is_an_error() -> None:
    """If this error counted as the channel's end, the record would be lost without a notice."""
    ours, theirs = Channel.pair()
    with contextlib.closing(ours), contextlib.closing(theirs), pytest.raises(OSError, match="long"):
        ours.send({"long": "x" * (64 << 20)})


def test_owned_descriptors_are_closed_once_they_are_sent(ends: Ends) -> None:
    """Others stay open. The receiver has copies of its own."""
    here, there = ends
    kept, owned = os.pipe()
    here.send({"a": 1}, [kept])
    here.send({"b": 1}, [owned], owned=True)
    os.fstat(kept)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(owned)
    os.close(kept)
    received = [descriptors for _, descriptors in there.receive()]
    os.write(received[1][0], b"x")
    assert os.read(received[0][0], 1) == b"x"
    for (descriptor,) in received:
        os.close(descriptor)


def test_owned_descriptors_are_closed_with_the_channel(ends: Ends) -> None:
    here, _ = ends
    fill(here)
    kept, owned = os.pipe()
    here.send({"a": 1}, [kept])
    here.send({"b": 1}, [owned], owned=True)
    os.fstat(owned)
    here.close()
    os.close(kept)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(owned)
