"""Tests of the table of options: its rows, and the texts that are derived from them."""

import os
import subprocess
import sys
from argparse import ArgumentParser
from pathlib import Path

import pytest

from chatroom.config.limits import MAX_WORKERS
from chatroom.config.options import OPTIONS, Option, default_workers
from chatroom.config.settings import Settings

ROOT = Path(__file__).parents[2]


def option(name: str) -> Option:
    (found,) = (option for option in OPTIONS if option.name == name)
    return found


def test_a_row_has_the_name_and_the_default_of_its_field() -> None:
    settings = Settings()
    assert {row.name: row.default for row in OPTIONS} == {
        name: getattr(settings, name) for name in Settings.__dataclass_fields__
    }


@pytest.mark.parametrize("row", OPTIONS, ids=lambda row: row.key)
def test_a_default_can_be_written_and_is_in_range(row: Option) -> None:
    row.check(row.default)
    if not (row.is_flag or row.repeats or row.default is None):
        assert row.parse(row.format(row.default)) == row.default


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("welcome", ""),
        ("max_lag", ""),
        ("workers", f"a number from 1 to {MAX_WORKERS}"),
        ("burst", "a size from 1K"),
        ("max_line", "a size from 64 to 1M"),
        ("peer_timeout", "0, or seconds from 2 to 65535"),
        ("flush_after", "seconds, above 0 and up to 60"),
    ],
)
def test_the_range_of_an_option_is_described(name: str, text: str) -> None:
    assert option(name).range == text


def test_an_option_converts_its_argument_or_raises_an_error() -> None:
    assert option("max_clients").parse("5") == 5
    with pytest.raises(ValueError, match=r"^a whole number, not 'x'$"):
        option("max_clients").parse("x")
    with pytest.raises(ValueError, match=r"^text or json, not 'xml'$"):
        option("log_format").parse("xml")


def test_a_default_that_depends_on_the_machine_is_only_in_the_help() -> None:
    parser = ArgumentParser()
    option("workers").add_to(parser)
    told = " ".join(parser.format_help().split())
    default = option("workers").default
    assert told.endswith(f"(default: one for each usable core, here {default})")
    assert option("workers").shown_default == "one for each usable core"


def test_the_help_of_max_lag_gives_the_number_of_entries() -> None:
    assert f"by more than {Settings().max_lag_entries:,} log entries" in option("max_lag").help


def test_the_documentation_has_the_table() -> None:
    subprocess.run([sys.executable, str(ROOT / "scripts/write-options"), "--check"], check=True)


@pytest.mark.parametrize(("cores", "workers"), [(3, 3), (MAX_WORKERS + 1, MAX_WORKERS)])
def test_the_number_of_workers_follows_from_the_cores(
    cores: int, workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(cores), raising=False)
    assert default_workers() == workers


@pytest.mark.parametrize(("counted", "workers"), [(6, 6), (None, 1)])
def test_all_cores_count_where_the_affinity_is_unknown(
    counted: int | None, workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: counted)
    assert default_workers() == workers
