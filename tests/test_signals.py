"""The signals that stop a room, and how its other processes are kept from them."""

import signal

import pytest

from chatroom.signals import CREW_SIGNALS, STOP_SIGNALS, stop_signals_blocked


def blocked() -> set[int]:
    return set(signal.pthread_sigmask(signal.SIG_BLOCK, []))


def test_stop_signals_are_blocked_while_a_process_starts() -> None:
    before = blocked()
    with stop_signals_blocked():
        assert blocked() == before | {*STOP_SIGNALS, *CREW_SIGNALS}
    assert blocked() == before


def test_they_are_blocked_no_longer_when_it_can_not_start() -> None:
    before = blocked()
    with pytest.raises(OSError, match="no memory"), stop_signals_blocked():
        raise OSError("no memory")
    assert blocked() == before
