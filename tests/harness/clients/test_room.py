"""The room of a conformance test, with correct servers and with servers that can't be joined."""

import asyncio
import contextlib
import resource
import shlex
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from harness import profile
from harness.clients.client import Client, Clock, Log
from harness.clients.room import (
    CLOSES_WITHIN,
    SILENCES,
    Room,
    applies,
    expect,
    expect_equal,
    needs_ipv6,
)
from harness.clients.stream import sequence
from harness.errors import CannotJudge, NotApplicable, Undecided, Violation
from harness.target.target import Command, Target
from tests.integration.waiting import until

REFERENCE = f"{shlex.quote(sys.executable)} -m harness.reference {{host}} {{port}}"
TUTORIAL = (
    f"{shlex.quote(sys.executable)} {shlex.quote(str(Path(__file__).parents[1]))}/tutorial.py"
    " {host} {port}"
)
NOWHERE = Target("127.0.0.1", 9)


def room_of(target: Target, clock: Clock = Clock()) -> Room:  # noqa: B008
    return Room(target, profile.load("reference"), clock, Log())


@contextlib.contextmanager
def server(options: str = "") -> Iterator[Command]:
    made = Command(REFERENCE, options)
    made.start()
    try:
        yield made
    finally:
        made.stop()


def play(room: Room, test: Callable[[Room], Awaitable[None]]) -> None:
    async def main() -> None:
        try:
            await asyncio.wait_for(test(room), 40)
        finally:
            await room.leave()

    asyncio.run(main())


def test_members_talk() -> None:
    async def test(room: Room) -> None:
        member, other, third = await room.join(3)
        assert [bytes(member.heard) for member in (member, other, third)] == [b""] * 3
        word = room.token()
        await member.say(word + b"\n")
        before = await room.barrier(member, other, third)
        assert [room.texts(heard) for heard in before] == [[word + b"\n"]] * 2
        assert before[0] == b"<%s>%s\n" % (member.address.encode(), word)
        await room.greet(third, member)
        room.count_out(member)
        member.close()
        assert set(await room.settle()) == {other, third}

    with server() as target:
        play(room_of(target), test)


def test_output_returns_the_output_of_the_server_that_was_started_last() -> None:
    async def test(room: Room) -> None:
        room.another("--announce")
        room.another("--announce", host="::1")
        until(room.output, "the second server prints its address")

    with server("--announce") as target:
        room = room_of(target)
        # The server prints its address just after it has begun to listen.
        until(lambda: room.output().endswith("\n"), "the server prints its address")
        assert room.output() == target.output() == f"listening on 127.0.0.1:{target.port}\n"
        play(room, test)
        assert "listening on [::1]:" in room.output()  # although the server was stopped


def test_tell_returns_the_prefix_and_mutual_barrier_what_members_received() -> None:
    async def test(room: Room) -> None:
        member, other, third = members = await room.join(3)
        assert await room.tell(member, other) == b"<%s>" % member.address.encode()
        [begun] = room.tokens(1)
        await member.say(begun)
        await other.hears(begun)
        assert await room.tell(third, other) == b"<%s>" % third.address.encode()
        said = room.tokens(3)
        for speaker, word in zip(members, said, strict=True):
            await speaker.say(word + b"\n")
        heard = await room.mutual_barrier(members)
        for listener in members:
            of_others = [
                word for speaker, word in zip(members, said, strict=True) if speaker != listener
            ]
            assert sorted(sequence(heard[listener], set(said))) == of_others

    with server() as target:
        play(room_of(target), test)


def test_clients_take_the_endpoints_in_turn() -> None:
    """Each round of clients begins with the next endpoint.

    A client takes an endpoint of its own address family, if there is one.
    """
    two, six = [("127.0.0.1", 1), ("127.0.0.1", 2)], [("::1", 3)]
    drawn = set()
    for seed in range(9):
        room = room_of(NOWHERE)
        room.random.seed(seed)
        taken = [room._endpoint(number, two, None)[1] for number in range(8)]
        assert taken in ([1, 2, 2, 1, 1, 2, 2, 1], [2, 1, 1, 2, 2, 1, 1, 2])
        drawn.add(taken[0])
        assert room._endpoint(seed, [*two, *six], "::1") == six[0]
        assert room._endpoint(seed, six, "127.0.0.1") == six[0], (
            "the only endpoint is used, although its family differs"
        )
    assert drawn == {1, 2}


def test_own_server_returns_the_target_if_none_can_be_started() -> None:
    async def test(room: Room) -> None:
        assert (room.own_server() is room.target) is not room.target.ours

    play(room_of(NOWHERE), test)
    play(room_of(Command(REFERENCE)), test)


def test_a_member_logs_in_before_the_next_connects() -> None:
    """Some servers mix up clients that log in at the same time."""

    async def test(room: Room) -> None:
        await room.join(3)
        seen = [event for event in room.log.events() if event.what in ("connects", "sends")]
        assert [(event.client, event.what) for event in seen[:6]] == [
            (name, what) for name in "ABC" for what in ("connects", "sends")
        ]

    with server("--dialect names") as target:
        play(Room(target, profile.load("reference-names"), Clock(), Log()), test)


def test_clients_that_join_at_once_have_distinct_names_and_addresses() -> None:
    async def test(room: Room) -> None:
        crowd = await asyncio.gather(*[room.enter() for _ in range(30)])
        assert len({client.address for client in crowd}) == 30
        assert [client.name for client in crowd][:27:13] == ["A", "N", "A1"]

    with server() as target:
        play(room_of(target), test)


def test_hears_through_finds_a_token_that_more_text_follows() -> None:
    async def test(room: Room) -> None:
        member, other = await room.join(2)
        words = room.tokens(500)
        await member.say(b"".join(word + b"\n" for word in [*words, *room.tokens(50)]))
        heard = await room.hears_through(other, words[-1])
        assert heard.startswith(b"".join(words))
        with pytest.raises(Violation, match="B did not receive the end of a long text"):
            await room.hears_through(other, room.token(), 0.1)

    with server() as target:
        play(room_of(target), test)


@pytest.mark.parametrize(
    ("hopeless", "complaint"),
    [
        ("closes-at-once", "failed while it sent|did not|does not"),
        ("never-accepts", "A has connected, but does not receive messages"),
        ("floods-with-garbage", "stopped reading|does not receive messages|received 64 MiB"),
    ],
)
def test_a_server_that_nobody_can_join_is_a_violation(hopeless: str, complaint: str) -> None:
    clock = Clock(0.2)

    async def test(room: Room) -> None:
        began = time.monotonic()
        with pytest.raises(Violation, match=complaint):
            await room.join(2)
        assert time.monotonic() - began < 20

    with server(f"--hopeless {hopeless}") as target:
        play(room_of(target, clock), test)


def test_a_server_that_hangs_after_a_message_is_a_violation() -> None:
    async def test(room: Room) -> None:
        with contextlib.suppress(Violation):
            await room.join(1)  # the server delivers only this client's first token
        with pytest.raises(Violation, match="does not receive messages"):
            await room.join(1)

    with server("--hopeless hangs-after-a-message") as target:
        play(room_of(target, Clock(0.2)), test)


def test_the_fate_of_a_server_that_has_ended_is_reported() -> None:
    with server() as target:

        async def test(room: Room) -> None:
            member, other = await room.join(2)
            target.processes()[0].kill()
            await other.hears_end()
            with contextlib.suppress(Violation):  # another test checks how the connection ends
                await member.hears_end()
            # The connections of a killed process end just before the process.
            until(target.death, "the server has ended")
            assert room.fate() == "; the server ended (SIGKILL)"

        play(room_of(target), test)


def test_another_server_is_stopped_at_the_end() -> None:
    others: list[Command] = []

    async def test(room: Room) -> None:
        other = room.another()
        assert isinstance(other, Command)
        others.append(other)
        there = await room.enter(target=others[0])
        assert there.port
        assert room.at(others[0], "::1").address == ("::1", others[0].port)

    play(room_of(Command(REFERENCE)), test)
    assert others[0].processes() == []


def test_an_unavailable_address_leaves_the_test_undecided() -> None:
    async def test(room: Room) -> None:
        with pytest.raises(Undecided, match=r"can't connect from 192\.0\.2\.1: "):
            await room.connect("192.0.2.1")

    play(room_of(NOWHERE), test)


def test_too_few_descriptors_of_the_harness_raise_cannot_judge() -> None:
    async def test(room: Room) -> None:
        source, server = room.address(), Command("true {port}")
        server.port = 9
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, limits[1]))
        try:
            with pytest.raises(CannotJudge, match="descriptors: Too many open files"):
                await room.connect(source)
            for attempt in (room.address, needs_ipv6, server.start):
                with pytest.raises(CannotJudge, match="descriptors: Too many open files"):
                    attempt()
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)

    play(room_of(NOWHERE), test)


def test_a_late_harness_cannot_judge_unless_it_started_or_stopped_a_server() -> None:
    target = Target("127.0.0.1", 9)

    async def test(room: Room) -> None:
        room.check_punctual()
        watch = asyncio.create_task(room.watch())
        await asyncio.sleep(0)
        time.sleep(0.6)
        target.blocked = 0.6  # as if the start of a server had taken 0.6 s
        room.check_punctual()
        time.sleep(0.6)
        with pytest.raises(CannotJudge, match=r"the harness itself was 0\.\d s late"):
            room.check_punctual()
        watch.cancel()

    play(room_of(target, Clock(0.4)), test)


def room_with_another_welcome(target: Target, clock: Clock) -> Room:
    """Return a room whose profile has another welcome than the server."""
    return Room(target, profile.parse("welcome = 'Bonjour'", "strange"), clock, Log())


def test_a_welcome_that_does_not_match_the_profile_is_awaited_once() -> None:
    async def test(room: Room) -> None:
        await room.enter()
        assert room.target.unwelcoming
        began = time.monotonic()
        for _ in range(5):
            assert (await room.enter()).heard == b"Welcome to socket practice\n"
        assert time.monotonic() - began < 5 * room.window

    async def as_usual(room: Room) -> None:
        await room.enter()
        assert not room.target.unwelcoming

    with server() as target:
        play(room_with_another_welcome(target, Clock(5)), test)
        play(room_of(target), as_usual)


def test_a_failure_in_a_broken_room_is_undecided() -> None:
    async def fails(room: Room, *members: Client) -> None:
        async with room.undecided_if_deaf(*members):
            raise Violation("a line is lost")

    async def whole(room: Room) -> None:
        with pytest.raises(Violation, match="a line is lost"):
            await fails(room, *await room.join(2))

    async def broken(room: Room) -> None:
        member, other = await room.join(2)
        other.finish()
        await other.ends()
        with pytest.raises(Undecided, match="the whole room is broken"):
            await fails(room, member, other)

    with server() as target:
        play(room_of(target, Clock(0.5)), whole)
        play(room_of(target, Clock(0.5)), broken)


Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@contextlib.asynccontextmanager
async def serving(serve: Serve | None = None) -> AsyncIterator[Target]:
    """Run a server in this process. Its default `serve` sends nothing and never closes."""
    over = asyncio.Event()
    tasks = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.append(asyncio.current_task())
        await (serve(reader, writer) if serve else over.wait())
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()

    made = await asyncio.start_server(handle, "127.0.0.1", 0)
    async with made:
        yield Target(*made.sockets[0].getsockname())
        over.set()
        await asyncio.gather(*filter(None, tasks))


def test_a_welcome_of_a_silent_server_is_awaited_a_few_times() -> None:
    async def main() -> None:
        async with serving() as target:
            room = room_with_another_welcome(target, Clock(2))
            for number in range(SILENCES):
                assert target.silences == number
                await room.enter()
            began = time.monotonic()
            for _ in range(8):
                await room.enter()
            assert time.monotonic() - began < 8 * room.window
            await room.leave()

    asyncio.run(main())


def test_a_server_that_never_closes_is_awaited_once() -> None:
    async def main() -> None:
        async with serving() as target:
            for windows in (CLOSES_WITHIN, 1):
                room = room_of(target, Clock(2))
                await room.connect()
                began = time.monotonic()
                await room.leave()
                took = time.monotonic() - began
                assert windows * room.window <= took < 0.8 * room.clock.patience
                assert target.stays_open

    asyncio.run(main())


def test_a_server_that_still_sends_is_awaited_until_it_closes() -> None:
    async def sends(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        for _ in range(4 * CLOSES_WITHIN):
            await asyncio.sleep(0.3)
            writer.write(b"x")

    async def main() -> None:
        async with serving(sends) as target:
            room = room_of(target, Clock(3))
            client = await room.connect()
            await room.leave()
            assert client.ended == "closed"
            assert not target.stays_open

    asyncio.run(main())


@pytest.mark.parametrize(
    ("command", "busy"), [(TUTORIAL, True), (f"{REFERENCE} --hopeless never-accepts", False)]
)
def test_a_server_that_uses_cpu_time_without_clients_is_busy(command: str, busy: bool) -> None:
    """Neither server closes a connection. The tutorial's server calls `recv` in an endless loop."""
    target = Command(command)
    target.start()
    try:
        for _ in range(2):

            async def test(room: Room) -> None:
                client = await room.connect()
                await client.waits(lambda: bool(client.heard), room.window)

            play(room_of(target), test)
            assert target.stays_open
            assert target.busy == busy
        target.fresh()
        assert not target.busy
    finally:
        target.stop()


def test_clients_of_a_server_that_is_about_to_be_stopped_are_not_awaited() -> None:
    async def main() -> None:
        async with serving() as target:
            room = room_of(NOWHERE)
            room._others = [target]
            await room.connect(target=target)
            await room.leave()
            assert not NOWHERE.stays_open

    asyncio.run(main())


class _Stoppable(Target):
    """A target whose `stop` records the call, and raises an error."""

    def __init__(self) -> None:
        super().__init__("127.0.0.1", 9)
        self.stopped = False

    def stop(self) -> None:
        self.stopped = True
        raise CannotJudge("can't be ended")


@pytest.mark.parametrize("how", [KeyboardInterrupt, CannotJudge])
def test_all_servers_of_a_test_are_stopped_after_an_error(how: type[BaseException]) -> None:
    room = room_of(NOWHERE)
    others = [_Stoppable(), _Stoppable()]
    room._others = [*others]
    room._clients = []
    if how is KeyboardInterrupt:

        class Interrupted(list[Any]):
            def __iter__(self) -> Iterator[Any]:
                raise KeyboardInterrupt

        room._clients = Interrupted()
    with pytest.raises((KeyboardInterrupt, CannotJudge)):
        asyncio.run(room.leave())
    assert [other.stopped for other in others] == [True, True]


def test_quiet_lasts_one_window() -> None:
    async def test(room: Room) -> None:
        began = time.monotonic()
        await room.quiet()
        assert time.monotonic() - began >= room.window * 0.9

    play(room_of(NOWHERE, Clock(0.5)), test)


def test_tokens_are_unique_and_of_one_length() -> None:
    first, second = room_of(NOWHERE), room_of(NOWHERE)
    words = [*first.tokens(1000), *second.tokens(1000)]
    assert len(set(words)) == 2000
    assert len({len(word) for word in words}) == 1
    assert all(word.isalnum() for word in words)


def test_expectations() -> None:
    expect(1, "what")
    applies("x", "why")
    expect_equal("what", b"a", b"a")
    with pytest.raises(NotApplicable, match="why"):
        applies("", "why")
    with pytest.raises(Violation, match="what") as caught:
        expect_equal("what", b"a", b"b")
    assert (caught.value.expected, caught.value.actual) == (b"a", b"b")
