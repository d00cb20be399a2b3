"""Tests of the limits of connections that share the gateway's descriptors."""

import contextlib
from functools import partial

from chatroom.sidecars.web.connections import Connections
from chatroom.sidecars.web.process import MAX_OTHERS


def test_the_oldest_of_too_many_connections_without_a_member_is_cut() -> None:
    """A connection that has become a member or was lost is not cut. One that was added again is the
    newest."""
    connections = Connections(1)
    cut: list[int] = []
    for number in range(MAX_OTHERS):
        connections.add_other(number, partial(cut.append, number))
    connections.discard(0)
    connections.discard(0)
    connections.add_other(1, lambda: cut.append(1))
    connections.add_other("one", lambda: cut.append(-1))
    assert cut == []
    connections.add_other("two", lambda: cut.append(-2))
    assert cut == [2]
    for number in range(MAX_OTHERS):
        connections.add_other(str(number), lambda: None)
    assert cut == [*range(2, MAX_OTHERS), 1, -1, -2]


def test_members_are_limited() -> None:
    connections = Connections(2)
    full = [connections.full]

    def note() -> None:
        full.append(connections.full)

    connections.add_member()
    note()
    with contextlib.suppress(OSError), connections.reserve():
        note()
        raise OSError
    note()
    connections.add_member()
    note()
    connections.remove_member()
    note()
    assert full == [False, False, True, False, True, False]


def test_closing_connections_have_the_descriptors_of_free_places() -> None:
    """A place has two descriptors. If there is none left, the oldest closing one is cut."""
    connections = Connections(3)
    cut: list[int] = []
    connections.add_member()
    for number in range(5):
        connections.add_closing(number, partial(cut.append, number))
    assert cut == [0]
    connections.discard(2)
    connections.add_other("stranger", lambda: cut.append(-1))
    connections.add_member()
    assert cut == [0, 1]
    connections.add_member()
    assert cut == [0, 1, 3, 4]
    connections.add_closing(5, partial(cut.append, 5))
    assert cut == [0, 1, 3, 4, 5]
