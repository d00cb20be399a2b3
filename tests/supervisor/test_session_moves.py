"""Sessions that move between gateways: the main process's part, with fake gateways."""

from collections import deque
from collections.abc import Iterator, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatroom.supervisor import session_moves
from chatroom.supervisor.session_moves import SessionMoves
from chatroom.system.channel import Record

ID = "0-session"
ROOM = 1000
"""A descriptor that stands for the connection to the room."""


class FakeGateways:
    """Gateways that send and answer records when the test tells them to."""

    def __init__(self, count: int) -> None:
        self.moves = SessionMoves(count, self._tell)
        self.inbox: list[deque[tuple[Record, Sequence[int]]]] = [deque() for _ in range(count)]
        """Records of the main process that a gateway has not read yet."""
        self.outbox: list[deque[Record]] = [deque() for _ in range(count)]
        """Records of a gateway that the main process has not read yet."""
        self.holder: int | None = 0
        """Gateway that has the session."""
        self.claiming = [False] * count
        self.gone: list[int] = []
        """Gateways that were told that there is no session."""

    def _tell(self, gateway: int, record: Record, descriptors: Sequence[int]) -> None:
        self.inbox[gateway].append((record, descriptors))

    def claim(self, gateway: int) -> None:
        """Claim the session, unless the gateway already has it or claims it."""
        if self.holder != gateway and not self.claiming[gateway]:
            self.claiming[gateway] = True
            self.outbox[gateway].append({"claim": ID})

    def read(self, gateway: int) -> None:
        """Let a gateway handle one record."""
        if not self.inbox[gateway]:
            return
        record, descriptors = self.inbox[gateway].popleft()
        match record:
            case {"release": _} if self.holder == gateway:
                self.holder = None
                self.outbox[gateway].append({"released": ID})
            case {"release": _}:
                self.outbox[gateway].append({"gone": ID})
            case {"claimed": _}:
                assert self.claiming[gateway]
                assert self.holder is None, "two gateways have the session"
                assert descriptors == [ROOM]
                self.claiming[gateway] = False
                self.holder = gateway
            case {"gone": _}:
                assert self.claiming[gateway]
                self.claiming[gateway] = False
                self.gone.append(gateway)

    def handle(self, gateway: int) -> None:
        """Let the main process handle one record of a gateway."""
        if not self.outbox[gateway]:
            return
        record = self.outbox[gateway].popleft()
        match record:
            case {"claim": id}:
                self.moves.claim(gateway, id)
            case {"released": id}:
                self.moves.on_released(gateway, id, [ROOM])
            case {"gone": id}:
                self.moves.on_refused(gateway, record, id)

    def die(self, gateway: int) -> None:
        """Kill a gateway; its last records arrive, and another is started."""
        while self.outbox[gateway]:
            self.handle(gateway)
        self.inbox[gateway].clear()
        self.claiming[gateway] = False
        if self.holder == gateway:
            self.holder = None
        self.moves.on_start(gateway)

    def settle(self) -> None:
        while any(self.inbox) or any(self.outbox):
            for gateway in range(len(self.inbox)):
                self.read(gateway)
                self.handle(gateway)


@pytest.fixture(name="closed", autouse=True)
def fixture_closed(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """The descriptors that the main process has closed."""
    closed: list[int] = []
    monkeypatch.setattr(session_moves, "close_all", closed.extend)
    yield closed
    assert set(closed) <= {ROOM}


def test_the_first_claim_is_served_first() -> None:
    gateways = FakeGateways(3)
    gateways.moves.claim(2, ID)
    gateways.moves.claim(1, ID)
    assert [*gateways.inbox[0]] == [({"release": ID}, ())], "one at a time"
    gateways.moves.on_released(0, ID, [ROOM])
    assert [*gateways.inbox[2]] == [({"claimed": ID}, [ROOM]), ({"release": ID}, ())]
    gateways.moves.on_released(2, ID, [ROOM])
    assert [*gateways.inbox[1]] == [({"claimed": ID}, [ROOM])]


def test_a_session_that_has_moved_is_found_until_it_ends() -> None:
    gateways = FakeGateways(3)
    gateways.moves.claim(1, ID)
    gateways.moves.on_released(0, ID, [ROOM])
    gateways.moves.forget(0, ID)  # no effect: gateway 0 no longer has the session
    gateways.moves.claim(2, ID)
    assert gateways.inbox[1][-1] == ({"release": ID}, ())
    gateways.moves.on_released(1, ID, [ROOM])
    gateways.moves.forget(2, ID)
    gateways.moves.claim(1, ID)
    assert gateways.inbox[0][-1] == ({"release": ID}, ()), "gateway 0 is asked again"


def test_a_gateway_that_does_not_exist_has_no_session() -> None:
    gateways = FakeGateways(2)
    gateways.moves.claim(1, "2-session")
    assert [*gateways.inbox[1]] == [({"gone": "2-session"}, ())]


def test_a_claim_ends_with_the_gateway_that_was_asked() -> None:
    gateways = FakeGateways(3)
    gateways.moves.claim(1, ID)
    gateways.moves.claim(2, ID)
    gateways.die(0)
    assert [*gateways.inbox[1]] == [*gateways.inbox[2]] == [({"gone": ID}, ())]


def test_a_session_for_a_gateway_that_has_died_ends(closed: list[int]) -> None:
    """The kernel closes the connection to the room, so the member leaves."""
    gateways = FakeGateways(3)
    gateways.moves.claim(1, ID)
    gateways.moves.on_start(1)
    gateways.moves.on_released(0, ID, [ROOM])
    assert closed == [ROOM]
    assert not gateways.inbox[1]
    gateways.moves.claim(1, ID)
    assert gateways.inbox[0][-1] == ({"release": ID}, ())


def test_a_session_that_has_moved_ends_with_its_gateway() -> None:
    """The main process forgets it: for the next claim, it asks the gateway where it began."""
    gateways = FakeGateways(3)
    gateways.moves.claim(1, ID)
    gateways.moves.on_released(0, ID, [ROOM])
    gateways.moves.on_start(1)
    gateways.inbox[0].clear()
    gateways.moves.claim(2, ID)
    assert [*gateways.inbox[0]] == [({"release": ID}, ())]
    gateways.moves.on_released(0, ID, [ROOM])
    gateways.moves.claim(1, ID)
    gateways.moves.on_start(1)
    gateways.moves.on_released(2, ID, [ROOM])
    gateways.inbox[0].clear()
    gateways.moves.claim(1, ID)
    assert [*gateways.inbox[0]] == [({"release": ID}, ())]


def test_an_answer_that_nobody_waits_for_is_dropped(closed: list[int]) -> None:
    gateways = FakeGateways(3)
    gateways.moves.on_released(0, ID, [ROOM])
    gateways.moves.on_refused(0, {"gone": ID}, ID)
    assert closed == [ROOM]
    assert not any(gateways.inbox)
    gateways.moves.claim(1, ID)
    gateways.moves.on_refused(2, {"gone": ID}, ID)
    assert not gateways.inbox[1]


STEPS = st.tuples(st.sampled_from(["claim", "read", "handle"]), st.integers(0, 2))


@given(st.lists(STEPS, max_size=60))
def test_without_deaths_a_session_is_never_lost(steps: list[tuple[str, int]]) -> None:
    """Each claim gets one answer: the session moves to the gateway."""
    gateways = FakeGateways(3)
    for step, gateway in steps:
        getattr(gateways, step)(gateway)
    gateways.settle()
    assert gateways.holder is not None
    assert not any(gateways.claiming)
    assert not gateways.gone


@given(st.lists(st.one_of(STEPS, st.tuples(st.just("die"), st.integers(0, 2))), max_size=60))
def test_with_deaths_each_claim_still_gets_one_answer(steps: list[tuple[str, int]]) -> None:
    """Two gateways never have the session at once."""
    gateways = FakeGateways(3)
    for step, gateway in steps:
        getattr(gateways, step)(gateway)
    gateways.settle()
    assert not any(gateways.claiming)
    for gateway in range(3):
        gateways.claim(gateway)
        gateways.settle()
    assert gateways.holder in (None, 2)
    assert not any(gateways.claiming)
