"""The progress of a simulation, on a terminal and elsewhere."""

import io
import os
import pty
from collections.abc import Iterator

import pyte
import pytest

from harness.simulation.run.progress import EVERY, Status, about, described, live


def status(elapsed: float, heard: int = 0, latest: str = "") -> Status:
    return Status(elapsed, 40, 81, heard, 0, 2.4, latest)


def test_output_without_a_terminal_has_a_line_every_five_seconds() -> None:
    stream = io.StringIO()
    with live(stream, 30) as told:
        for second in range(12):
            told(status(second, second * 100, "kill-worker" if second > 6 else ""))
    assert EVERY == 5.0
    assert stream.getvalue().splitlines() == [
        "5 of 30 s: 40 members, 81 messages, 500 deliveries, 100/s, lag 2 ms",
        "10 of 30 s: 40 members, 81 messages, 1,000 deliveries, 100/s, lag 2 ms, kill-worker",
    ]


def test_unexpected_lines_are_counted() -> None:
    assert described(Status(1, 2, 3, 4, 5, 0.0, ""), 10, 0).endswith("5 unexpected lines, lag 0 ms")


@pytest.mark.parametrize(
    ("value", "says"),
    [(0, "0"), (9_999, "9,999"), (10_000, "10 k"), (324_400, "324 k"), (12_345_678, "12 M")],
)
def test_large_numbers_are_rounded(value: float, says: str) -> None:
    assert about(value) == says


def test_the_brief_progress_fits_80_columns() -> None:
    told = described(Status(12, 400, 812, 324_000, 0, 2.4, "kill-worker"), 30, 29_454, brief=True)
    assert (
        told == "12 of 30 s: 400 members, 812 sent, 324 k received, 29 k/s, lag 2 ms, kill-worker"
    )
    assert len(told) <= 80


@pytest.fixture(name="terminal")
def fixture_terminal() -> Iterator[tuple[int, io.TextIOWrapper]]:
    ours, theirs = pty.openpty()
    with os.fdopen(theirs, "w") as stream:
        yield ours, stream
    os.close(ours)


def all_shown(ours: int, stream: io.TextIOWrapper) -> str:
    """Return everything that was written to the terminal so far."""
    print("\x00", end="", file=stream, flush=True)
    shown = b""
    while not shown.endswith(b"\x00"):
        shown += os.read(ours, 1 << 16)
    return shown[:-1].decode()


def test_a_bar_on_a_terminal(
    terminal: tuple[int, io.TextIOWrapper], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    ours, stream = terminal
    with live(stream, 30) as told:
        told(status(1, 10))
        told(status(2, 210))
    shown = all_shown(ours, stream)
    assert "2 of 30 s: 40 members" in shown
    assert ", 200/s" in shown


@pytest.mark.parametrize("columns", [10, 40, 80])
def test_the_bar_is_erased_on_a_terminal_of_any_width(
    columns: int, terminal: tuple[int, io.TextIOWrapper], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", str(columns))
    ours, stream = terminal
    screen = pyte.Screen(columns, 5)
    with live(stream, 30) as told:
        told(Status(12, 400, 812, 324_000, 3, 2.4, "kill-worker"))
        told(Status(13, 400, 900, 350_000, 3, 2.4, "stop"))
    shown = all_shown(ours, stream)
    assert "13" in shown
    pyte.Stream(screen).feed(shown)
    assert [line for line in screen.display if line.strip()] == []
