"""Tests that scripts/check-prose finds the prose that it must find, and nothing else."""

import runpy
from pathlib import Path
from typing import Any

import pytest

CHECK: dict[str, Any] = runpy.run_path(str(Path(__file__).parents[1] / "scripts/check-prose"))


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ('"""Return the head."""', []),
        ('"""Who is in the room."""', [(1, "Who is in the room.")]),
        ('"""… whose worker died."""', []),
        ('"""Whose worker died,\n\nand more."""', [(1, "Whose worker died,")]),
        ('class A:\n    x = 1\n    """Whether it is."""', [(3, "Whether it is.")]),
        ('x = "What is this?"', []),
        ('"""Offsets of entries."""', []),
        ('x = 1\n"""How it ended."""', [(2, "How it ended.")]),
    ],
)
def test_the_check_finds_how_docstrings_begin(source: str, found: list[tuple[int, str]]) -> None:
    assert list(CHECK["openers"](source)) == found


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("one line\nto whom it was sent\n", [(2, "to whom it was sent")]),
        ("x = 1  # Open the file anew.", [(1, "x = 1  # Open the file anew.")]),
        ("systemctl kill --kill-whom=main", []),
        ("a renewed lesson of the latest", []),
    ],
)
def test_the_check_finds_archaic_words(source: str, found: list[tuple[int, str]]) -> None:
    assert list(CHECK["archaic"](source)) == found
