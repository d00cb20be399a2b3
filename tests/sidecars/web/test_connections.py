"""The connections that share the gateway's descriptors."""

from functools import partial

from chatroom.sidecars.web.connections import Connections
from chatroom.sidecars.web.process import MAX_OTHERS


def test_the_oldest_of_the_connections_that_are_no_members_is_cut() -> None:
    """Unless it is a member now, has gone, or has been added again."""
    connections = Connections(1)
    cut: list[int] = []
    for number in range(MAX_OTHERS):
        connections.add_other(number, partial(cut.append, number))
    connections.discard_other(0)
    connections.discard_other(0)
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
    connections.members += 1
    assert not connections.full
    connections.members += 1
    assert connections.full
