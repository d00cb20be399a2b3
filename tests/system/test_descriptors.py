"""Tests of the limit of open descriptors."""

import resource
import subprocess
import sys
from pathlib import Path

import pytest

from chatroom.errors import LimitError
from chatroom.system.descriptors import ENOUGH, raise_limit

ROOT = Path(__file__).parent.parent.parent
RESERVED = 64


class Limits:
    """Fake soft and hard limits of a process."""

    def __init__(self, soft: int, hard: int, grants: bool = True) -> None:
        self.limits = soft, hard
        self._grants = grants

    def get(self, which: int) -> tuple[int, int]:
        assert which == resource.RLIMIT_NOFILE
        return self.limits

    def set(self, which: int, limits: tuple[int, int]) -> None:
        assert which == resource.RLIMIT_NOFILE
        if not self._grants:
            raise ValueError("current limit exceeds maximum limit")
        self.limits = limits


def raised(limits: Limits, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(resource, "getrlimit", limits.get)
    monkeypatch.setattr(resource, "setrlimit", limits.set)
    return raise_limit(RESERVED)


def test_the_soft_limit_is_raised_to_the_hard_one(monkeypatch: pytest.MonkeyPatch) -> None:
    limits = Limits(1024, 4096)
    assert raised(limits, monkeypatch) == 4096 - RESERVED
    assert limits.limits == (4096, 4096)


@pytest.mark.parametrize("soft", [256, 1024])
def test_the_soft_limit_counts_where_raising_it_is_refused(
    soft: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = Limits(soft, resource.RLIM_INFINITY, grants=False)
    assert raised(limits, monkeypatch) == soft - RESERVED


def test_an_unlimited_hard_limit_becomes_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    limits = Limits(1024, resource.RLIM_INFINITY)
    assert raised(limits, monkeypatch) == ENOUGH - RESERVED


def test_descriptors_for_one_member_are_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    assert raised(Limits(RESERVED + 1, RESERVED + 1), monkeypatch) == 1


@pytest.mark.parametrize("hard", [0, RESERVED])
def test_descriptors_for_no_member_are_an_error(hard: int, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(LimitError, match=f"too few descriptors: {hard}, but more than 64"):
        raised(Limits(hard, hard), monkeypatch)


RAISE = """
import resource
resource.setrlimit(resource.RLIMIT_NOFILE, (100, 200))
from chatroom.system.descriptors import raise_limit
print(raise_limit(64), *resource.getrlimit(resource.RLIMIT_NOFILE))
"""


def test_a_real_limit_is_raised() -> None:
    run = subprocess.run(
        [sys.executable, "-c", RAISE], cwd=ROOT, capture_output=True, check=True, timeout=30
    )
    assert run.stdout.split() == [b"%d" % (200 - RESERVED), b"200", b"200"]
