"""The clauses, as they are read from PROTOCOL.md."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.clauses import Clause, all_clauses, parse

PAGE = Path(__file__).parents[2] / "PROTOCOL.md"


def test_each_clause_of_the_page_is_found() -> None:
    ids = re.findall(r"(?m)^\| *([A-Z]\S*) *\| (?!ours)", PAGE.read_text(encoding="utf-8"))
    assert ids == list(all_clauses())


def test_a_clause_is_read_word_by_word() -> None:
    assert all_clauses()["CAST-2"] == Clause(
        "CAST-2", "MUST", "Broadcast", "A message never reaches its sender."
    )


def test_a_section_is_a_heading() -> None:
    sections = dict.fromkeys(clause.section for clause in all_clauses().values())
    headings = re.findall(r"(?m)^## (.+)$", PAGE.read_text(encoding="utf-8"))
    ours = ["Earlier messages", "Several nodes"]  # the harness does not judge these sections
    assert [*sections, *ours] == headings


def test_rows_that_are_not_clauses_are_skipped() -> None:
    page = (
        "# P\n| id | level | clause |\n|---|---|---|\n| A-1 | MAY | x |\n| A-b | MUST | x |\ntext"
    )
    assert parse(page) == {}


def test_an_id_that_occurs_twice_is_an_error() -> None:
    with pytest.raises(ValueError, match="A-1 occurs twice"):
        parse("| A-1 | MUST | one |\n| B-1 | MUST | two |\n| A-1 | SHOULD | three |\n")


words = st.text("abc |`*<>.é", min_size=1).map(str.strip).filter(bool)
ids = st.from_regex(r"[A-Z]{1,8}-[0-9]{1,3}", fullmatch=True)
clauses = st.builds(Clause, ids, st.sampled_from(["MUST", "SHOULD"]), words, words)


@given(st.lists(clauses, unique_by=lambda clause: clause.id))
def test_written_clauses_are_read_back(written: list[Clause]) -> None:
    page = "".join(f"## {c.section}\n\n| {c.id} | {c.level} | {c.text} |\n\n" for c in written)
    assert list(parse(page).values()) == written
