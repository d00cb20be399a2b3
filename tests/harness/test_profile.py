"""Profile files: how they are read, and the errors for invalid files."""

import re
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatroom.sidecars.cluster.bridge import DISCONNECTED_NOTICE, RECONNECTED_NOTICE
from harness import profile
from harness.clauses import clauses_of_kind
from harness.clients.stream import lines
from harness.profile import LoginStep, Profile
from harness.toml_reader import TomlError, read

SHOULD = {
    clause.id
    for clause in clauses_of_kind(on_websockets=False).values()
    if clause.level == "SHOULD"
}


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
        echo = 'You: '
        suffix = '\\x07'
        colours = true
        commands = "/"
        input_line_end = "CR LF"
        output_line_end = "LF"
        notices = ['\\* .*\\n', '']
        claims = ["CAST-5", "LINE-2"]
        full_options = "--max 2"
        full_clients = 2
        lag_limit = 3
        rate = 4
        burst = 5
        [[login]]
        sends = "/login {name}"
        [[login]]
        expects = "word: "
        sends = "secret"
    """
    assert profile.parse(text, "all") == Profile(
        "all",
        "Ours.",
        (LoginStep("/login {name}"), LoginStep("secret", re.compile(b"word: "))),
        re.compile(rb"Hello \d+\n"),
        re.compile(rb"\[.*?\] "),
        "name",
        re.compile(b"You: "),
        re.compile(b"\\x07"),
        True,
        "/",
        "CR LF",
        "LF",
        (re.compile(rb"\* .*\n"),),
        frozenset({"CAST-5", "LINE-2"}),
        "--max 2",
        2,
        3,
        4,
        5,
    )


def test_the_claim_all_means_every_clause_that_can_be_claimed() -> None:
    assert profile.parse("claims = ['all']", "").claims == SHOULD | {"LINE-5"}


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
        ("greeting = 'hi'", "greeting is unknown; the keys are about, login, welcome, prefix"),
        ("name = 'x'", "name is unknown; the keys are about, login, welcome"),
        ("about = 3", "about must be text, not 3"),
        ("welcome = 3", "welcome must be a pattern (3 is not a string), not 3"),
        ("welcome = '('", "welcome must be a pattern (missing"),
        ("welcome = 'a{99999999999}'", "welcome must be a pattern (the repetition number"),
        # Global flags can't be a part of a larger pattern, such as the pattern of a whole line.
        ("prefix = '(?i)a'", "prefix must be a pattern (global flags"),
        ("prefix = 'a)|(?:b'", "prefix must be a pattern (unbalanced"),
        ("notices = 'a'", "notices must be a list of patterns, not 'a'"),
        ("notices = [1]", "notices must be a list of patterns (1 is not a string), not [1]"),
        ("notices = ['[']", "notices must be a list of patterns (unterminated"),
        (
            "claims = 'all'",
            "claims must be a list of SHOULD clauses and LINE-5, or ['all'], not 'all'",
        ),
        (
            "claims = ['CAST-1']",
            "claims must be a list of SHOULD clauses and LINE-5, or ['all'] ('CAST-1'",
        ),
        (
            "claims = ['all', 'LINE-2']",
            "or ['all'] ('all' is neither a SHOULD clause nor LINE-5), not ['all', 'LINE-2']",
        ),
        (
            "claims = [['LINE-2']]",
            "or ['all'] (['LINE-2'] is neither a SHOULD clause nor LINE-5), not [['LINE-2']]",
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


def test_a_profile_is_named_after_its_file(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text("about = 'é'", encoding="utf-8")
    assert profile.load(str(file)) == Profile("mine", "é")


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(TomlError, match="is neither a file nor one of chatroom, "):
        profile.load(str(tmp_path / "mine.toml"))


def test_a_file_that_is_not_text_is_an_error(tmp_path: Path) -> None:
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
    """Return the error message of an invalid profile, or "" if the profile is valid."""
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


@pytest.mark.parametrize(
    ("text", "dialect"),
    [
        ("claims = ['LINE-5']", []),
        ("", ["unfinished lines wait for their end"]),
        ("prefix = '<.*?>: '", ["prefixes with names instead of addresses"]),
        ("prefix = '<.*?>: '\nidentity = 'address'", []),
        ("prefix = '(?P<ip>[0-9.]+): '", ["prefixes of another form"]),
        ("prefix = ''", ["messages without prefix"]),
        ("echo = ''", ["own messages come back"]),
        ("suffix = '\\x07'", ["text behind each message"]),
        ("colours = true", ["colours"]),
        ("commands = '/'", ["commands that begin with /"]),
        ("input_line_end = 'CR LF'", ["input lines end with CR LF"]),
        ("output_line_end = 'CR LF'", ["output lines end with CR LF"]),
        ("[[login]]\nsends = '{name}'", ["a login"]),
    ],
)
def test_dialect_lists_the_deviations_from_the_protocol(text: str, dialect: list[str]) -> None:
    claimed = "" if not text or "claims" in text else "claims = ['LINE-5']\n"
    assert profile.parse(claimed + text, "x").dialect() == dialect


@pytest.mark.parametrize(
    ("text", "changed"),
    [
        ("", set()),
        ("prefix = '(?P<name>.*?): '", {"PREFIX-1", "PREFIX-2", "PREFIX-3", "PREFIX-4"}),
        ("prefix = '(?P<ip>.*?): '", {"PREFIX-1", "PREFIX-2", "PREFIX-4"}),
        (
            "prefix = '(?P<port>[0-9]+): '",
            {"PREFIX-1", "PREFIX-2", "PREFIX-3", "PREFIX-4"},
        ),
        ("prefix = ''", {"PREFIX-1", "PREFIX-2", "PREFIX-3", "PREFIX-4"}),
        ("echo = ''", {"CAST-2"}),
        ("commands = '/'", {"CAST-3"}),
        ("input_line_end = 'CR LF'", {"LINE-1"}),
        ("output_line_end = 'CR LF'", {"LINE-1", "WELCOME-4"}),
        ("welcome = 'Hi'\n[[login]]\nsends = '{name}'", {"WELCOME-1"}),
        ("claims = []", {"LINE-5", "LINE-6"}),
    ],
)
def test_forms_lists_the_clauses_that_a_dialect_changes(text: str, changed: set[str]) -> None:
    claimed = "" if "claims" in text else "claims = ['LINE-5']\n"
    assert profile.parse(claimed + text, "x").forms().keys() == changed


@pytest.mark.parametrize(
    ("text", "clauses"),
    [
        ("", {"LINE-5", "LINE-6"}),
        ("claims = ['LINE-5']", set()),
        ("claims = ['LINE-5']\nprefix = '(?P<name>.*?): '", {"PREFIX-3"}),
        ("claims = ['LINE-5']\nprefix = '(?P<port>[0-9]+): '", {"PREFIX-3"}),
        ("claims = ['LINE-5']\nprefix = '(?P<ip>.*?): '", set()),
        (
            "claims = ['LINE-5']\nidentity = 'none'",
            {"PREFIX-1", "PREFIX-2", "PREFIX-3", "PREFIX-4"},
        ),
    ],
)
def test_inapplicable_lists_the_clauses_without_meaning(text: str, clauses: set[str]) -> None:
    made = profile.parse(text, "x")
    assert made.inapplicable().keys() == clauses
    assert {clause for clause, form in made.forms().items() if not form} == clauses


def test_an_identity_needs_a_prefix() -> None:
    with pytest.raises(TomlError, match="identity must be 'none', as the prefix is empty"):
        profile.parse("prefix = ''\nidentity = 'name'", "x")


@pytest.mark.parametrize(
    ("pattern", "prefix", "sender"),
    [
        (r"<[^<>\n]*>", b"<10.0.0.1>", b"<10.0.0.1>"),
        (r"\[\d+\] (?P<name>\w+): ", b"[12] ann: ", b"ann"),
        (r"(?P<ip>[\d.]+):(?P<port>\d+): ", b"10.0.0.1:77: ", b"10.0.0.1:77"),
        (r"(?P<name>\w+): ", b"nothing", b"nothing"),
    ],
)
def test_sender_returns_the_name_or_address_in_a_prefix(
    pattern: str, prefix: bytes, sender: bytes
) -> None:
    made = Profile("x", prefix=re.compile(pattern.encode()))
    assert made.sender(prefix) == sender


@pytest.mark.parametrize("text", [DISCONNECTED_NOTICE, RECONNECTED_NOTICE])
def test_the_profile_of_this_room_knows_the_notices_of_a_cluster(text: str) -> None:
    line = f"<room>{text}\n".encode()
    assert any(notice.fullmatch(line) for notice in profile.load("chatroom").notices)
