"""Test of the number of processors."""

import os

import pytest

from chatroom.system.processors import processors


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="only Linux restricts processors")
def test_only_the_processors_that_the_process_may_use_count() -> None:
    allowed = os.sched_getaffinity(0)
    assert processors() == len(allowed)
    os.sched_setaffinity(0, {min(allowed)})
    try:
        assert processors() == 1
    finally:
        os.sched_setaffinity(0, allowed)


def test_without_this_information_all_processors_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 7)
    assert processors() == 7
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert processors() == 1
