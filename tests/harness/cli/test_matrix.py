"""The command `matrix`, with records that the tests write."""

import json
from pathlib import Path
from typing import Any

import pytest

from harness.cli.main import main


def record(verdict: str = "pass", **clauses: str) -> dict[str, Any]:
    return {
        "verdict": verdict,
        "clauses": [
            {
                "id": name.replace("_", "-"),
                "level": "MUST",
                "verdict": found,
                "evidence": None,
                "detail": "<b>",
            }
            for name, found in clauses.items()
        ],
    }


def written(folder: Path, what: object) -> str:
    folder.mkdir()
    path = folder / "results.json"
    path.write_text(what if isinstance(what, str) else json.dumps(what), encoding="utf-8")
    return str(path)


@pytest.fixture
def two_records(tmp_path: Path) -> list[str]:
    return [
        written(tmp_path / "ours", record(CAST_1="pass", CAST_2="pass")),
        written(tmp_path / "a|b", record("fail", CAST_1="fail", LINE_1="not-applicable")),
    ]


def test_columns_are_aligned(two_records: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["matrix", *two_records]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "clause  level  ours  a|b",
        "CAST-1  MUST   pass  fail",
        "CAST-2  MUST   pass  -",
        "LINE-1  MUST   -     not-applicable",
        "all            pass  fail",
    ]


def test_markdown(two_records: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["matrix", *two_records, "--markdown"]) == 0
    assert capsys.readouterr().out.splitlines()[:3] == [
        "| clause | level | ours | a\\|b |",
        "|---|---|---|---|",
        "| CAST-1 | MUST | pass | **fail** |",
    ]


@pytest.fixture
def in_a_dialect(tmp_path: Path) -> str:
    """Return the path of a record of a server that was judged in a dialect."""
    made = {**record(CAST_1="fail", CAST_2="pass"), "dialect": ["a login", "an|echo\x1b"]}
    made["clauses"][0]["form"] = "Once, by name."
    return written(tmp_path / "theirs", made)


def test_a_dialect_is_marked_and_listed(
    two_records: list[str], in_a_dialect: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["matrix", two_records[0], in_a_dialect]) == 0
    note = "theirs, judged in its dialect (*): a login; an|echo?"
    assert capsys.readouterr().out.splitlines() == [
        "clause  level  ours  theirs",
        "CAST-1  MUST   pass  fail*",
        "CAST-2  MUST   pass  pass",
        "all            pass  pass",
        "",
        note,
    ]
    assert main(["matrix", two_records[0], in_a_dialect, "--markdown"]) == 0
    shown = capsys.readouterr().out
    assert "| CAST-1 | MUST | pass | **fail*** |" in shown
    assert note.replace("|", "\\|") in shown
    page = tmp_path / "m.html"
    assert main(["matrix", two_records[0], in_a_dialect, "--out", str(page)]) == 0
    assert ">fail*</summary>" in page.read_text(encoding="utf-8")
    assert f">{note}</p>" in page.read_text(encoding="utf-8")


def test_a_page(two_records: list[str], tmp_path: Path) -> None:
    page = tmp_path / "m.html"
    assert main(["matrix", *two_records, "--out", str(page)]) == 0
    shown = page.read_text(encoding="utf-8")
    assert '<summary class="fail">fail</summary>&lt;b&gt;</details>' in shown
    assert "2 passed" in shown
    assert "0 passed" in shown


def test_a_page_of_records_without_clauses(tmp_path: Path) -> None:
    page = tmp_path / "m.html"
    assert main(["matrix", written(tmp_path / "x", record()), "--out", str(page)]) == 0
    assert "0 passed" in page.read_text(encoding="utf-8")


def test_servers_with_equal_names_are_told_apart(
    two_records: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["matrix", two_records[0], two_records[0]]) == 0
    assert capsys.readouterr().out.count(two_records[0]) == 2


@pytest.mark.parametrize(
    "what",
    [
        "",
        "[" * 99999,
        [],
        {},
        {"verdict": "pass", "clauses": [{}]},
        {"verdict": ["pass"], "clauses": []},
        record("splendid"),
        record(CAST_1="splendid"),
        {**record(), "dialect": "a login"},
        {**record(), "dialect": [1]},
    ],
)
def test_an_invalid_record_is_reported_in_one_line(
    what: object, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["matrix", written(tmp_path / "x", what)])
    assert caught.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_missing_or_unwritable_file_is_reported_in_one_line(
    two_records: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    for arguments in (["/nowhere/results.json"], [two_records[0], "--out", "/nowhere/m.html"]):
        with pytest.raises(SystemExit) as caught:
            main(["matrix", *arguments])
        assert caught.value.code == 2
        assert capsys.readouterr().err.count("\n") == 1
