"""Profiles: those that ship, valid ones, and the errors for others."""

import re
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness import profile
from harness.clauses import all_clauses
from harness.clients.stream import lines
from harness.profile import Profile
from harness.toml_reader import TomlError, read

SHOULD = {clause.id for clause in all_clauses().values() if clause.level == "SHOULD"}


@pytest.mark.parametrize("name", profile.names())
def test_each_shipped_profile_is_valid(name: str) -> None:
    assert profile.load(name).about


def test_missing_keys_have_defaults() -> None:
    assert profile.parse("", "none") == Profile(name="none")


def test_all_keys_are_read() -> None:
    text = """
        about = "Ours."
        welcome = 'Hello \\d+\\n'
        prefix = '\\[.*?\\] '
        notices = ['\\* .*\\n', '']
        claims = ["CAST-5", "LINE-2"]
        full_options = "--max 2"
        full_clients = 2
        lag_limit = 3
        rate = 4
        burst = 5
    """
    assert profile.parse(text, "all") == Profile(
        "all",
        "Ours.",
        re.compile(rb"Hello \d+\n"),
        re.compile(rb"\[.*?\] "),
        (re.compile(rb"\* .*\n"),),
        frozenset({"CAST-5", "LINE-2"}),
        "--max 2",
        2,
        3,
        4,
        5,
    )


def test_the_claim_all_means_every_should_clause() -> None:
    assert profile.parse("claims = ['all']", "").claims == SHOULD


def test_an_empty_prefix_means_no_prefix() -> None:
    made = profile.parse("prefix = ''", "")
    assert [line.text for line in lines(b"<a>b\n", made)] == [b"<a>b\n"]


def test_patterns_are_of_bytes() -> None:
    welcome = profile.parse("welcome = 'é\\xff'", "").welcome
    assert welcome
    assert welcome.fullmatch("é".encode() + b"\xff")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("welcome", "'x' is not TOML: "),
        ("greeting = 'hi'", "greeting is unknown; the keys are about, welcome, prefix"),
        ("name = 'x'", "name is unknown; the keys are about, welcome"),
        ("about = 3", "about must be text, not 3"),
        ("welcome = 3", "welcome must be a pattern (3 is not a string), not 3"),
        ("welcome = '('", "welcome must be a pattern (missing"),
        ("welcome = 'a{99999999999}'", "welcome must be a pattern (the repetition number"),
        # It could not be part of a larger pattern, such as that of a line with a prefix.
        ("prefix = '(?i)a'", "prefix must be a pattern (global flags"),
        ("prefix = 'a)|(?:b'", "prefix must be a pattern (unbalanced"),
        ("notices = 'a'", "notices must be a list of patterns, not 'a'"),
        ("notices = [1]", "notices must be a list of patterns (1 is not a string), not [1]"),
        ("notices = ['[']", "notices must be a list of patterns (unterminated"),
        ("claims = 'all'", "claims must be a list of SHOULD clauses, or ['all'], not 'all'"),
        ("claims = ['CAST-1']", "claims must be a list of SHOULD clauses, or ['all'] ('CAST-1'"),
        (
            "claims = ['all', 'LINE-2']",
            "or ['all'] ('all' is not a SHOULD clause), not ['all', 'LINE-2']",
        ),
        (
            "claims = [['LINE-2']]",
            "or ['all'] (['LINE-2'] is not a SHOULD clause), not [['LINE-2']]",
        ),
        ("rate = 1.5", "rate must be a whole number, 0 or more, not 1.5"),
        ("rate = true", "rate must be a whole number, 0 or more, not True"),
        ("burst = -1", "burst must be a whole number, 0 or more, not -1"),
    ],
)
def test_an_error_is_named_in_one_line(text: str, complaint: str) -> None:
    with pytest.raises(TomlError) as caught:
        profile.parse(text, "x")
    assert str(caught.value).startswith("profile 'x'")
    assert complaint in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_is_named_after_its_stem(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text("about = 'é'", encoding="utf-8")
    assert profile.load(str(file)) == Profile("mine", "é")


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(TomlError, match="is neither a file nor one of chatroom, "):
        profile.load(str(tmp_path / "mine.toml"))


def test_a_file_that_is_not_text(tmp_path: Path) -> None:
    (tmp_path / "mine").write_bytes(b"\xff")
    with pytest.raises(TomlError, match="not UTF-8"):
        profile.load(str(tmp_path / "mine"))
    with pytest.raises(TomlError, match="Is a directory"):
        profile.load(str(tmp_path))


values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3),
    max_leaves=5,
)


def complaint_of(parse: Callable[[], Profile]) -> str:
    """Return the error for a profile that is invalid; empty if it is valid."""
    try:
        assert parse().claims <= SHOULD
    except TomlError as error:
        return str(error)
    return ""


@given(st.dictionaries(st.sampled_from([*Profile.__dataclass_fields__, "other"]), values))
def test_any_table_is_a_profile_or_an_error(table: dict[str, Any]) -> None:
    complaint = complaint_of(lambda: read(Profile, table, "profile 'x'", name="x"))
    assert complaint.startswith("profile 'x': ") or {"name", "other"}.isdisjoint(table)


@given(st.text())
def test_any_text_is_a_profile_or_an_error(text: str) -> None:
    complaint = complaint_of(lambda: profile.parse(text, "x"))
    assert complaint.startswith("profile 'x'") or not tomllib.loads(text)
