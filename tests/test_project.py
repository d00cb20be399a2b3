"""Tests of the project as a whole: its files agree with each other."""

import importlib
import importlib.metadata
import os
import re
import runpy
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

import chatroom
from tests import programs
from tests.programs import PACKAGES, program

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

# --- PROTOCOL.md ---------------------------------------------------------------------------------

SECTION = re.compile(r"^## (.+)$")
ROW = re.compile(r"^\| (?P<id>[^|]+) \| (?P<level>[^|]+) \| (?P<clause>.+) \|$")
HEAD = ["id", "level", "clause"]


def rows() -> list[tuple[str, str, str]]:
    lines = (ROOT / "PROTOCOL.md").read_text(encoding="utf-8").splitlines()
    found = [match.groups() for line in lines if (match := ROW.match(line))]
    return [(name, level, clause) for name, level, clause in found if [name, level, clause] != HEAD]


def test_every_row_of_the_protocol_is_a_clause() -> None:
    lines = (ROOT / "PROTOCOL.md").read_text(encoding="utf-8").splitlines()
    tables = sum(line == "|---|---|---|" for line in lines)
    assert tables == sum(bool(SECTION.match(line)) for line in lines)
    # Two lines of each table are not clauses: the names of the columns, and the line below them.
    assert len(rows()) == sum(line.startswith("|") for line in lines) - 2 * tables
    assert all(clause.strip() for _, _, clause in rows())


def test_clause_ids_are_unique_and_counted_from_one() -> None:
    numbers: dict[str, list[int]] = {}
    for name, _, _ in rows():
        section, number = name.split("-")
        assert re.fullmatch(r"[A-Z]+", section)
        numbers.setdefault(section, []).append(int(number))
    assert numbers
    for section, counted in numbers.items():
        assert counted == list(range(1, len(counted) + 1)), section


def test_every_clause_has_a_level() -> None:
    assert {level for _, level, _ in rows()} == {"MUST", "SHOULD", "ours"}


# --- version -------------------------------------------------------------------------------------


def test_the_version_is_the_same_everywhere() -> None:
    said = subprocess.run(
        [sys.executable, "-m", "chatroom", "--version"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert said.stdout.split()[1] == chatroom.__version__
    assert importlib.metadata.version("chatroom") == chatroom.__version__
    assert chatroom.__version__ in (ROOT / "CHANGELOG.md").read_text()


# --- dependencies --------------------------------------------------------------------------------


@pytest.mark.parametrize("script", PROJECT["scripts"])
def test_a_script_names_an_existing_function(script: str) -> None:
    module, _, function = PROJECT["scripts"][script].partition(":")
    assert callable(getattr(importlib.import_module(module), function))


IMPORT_ALL = """
import importlib, pkgutil, sys
NOT_PLAIN = (".client.view", ".sidecars.cluster.", ".sidecars.web.")  # they need other packages
for name in sys.argv[1:]:
    for module in pkgutil.walk_packages(importlib.import_module(name).__path__, name + "."):
        if module.name.endswith(".__main__") or any(part in module.name for part in NOT_PLAIN):
            continue
        importlib.import_module(module.name)
"""


def test_only_the_harness_the_client_s_window_the_bridge_and_the_gateway_need_dependencies() -> (
    None
):
    # With -S, Python ignores site-packages, so only the standard library and the checkout can be
    # imported.
    subprocess.run(
        [sys.executable, "-S", "-c", IMPORT_ALL, "chatroom", "harness.bench"], cwd=ROOT, check=True
    )
    subprocess.run(
        [sys.executable, "-S", "-m", "harness", "bench", "--help"],
        cwd=ROOT,
        check=True,
        stdout=subprocess.DEVNULL,
    )


# --- build ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("pattern", runpy.run_path(str(ROOT / "hatch_compile.py"))["MODULES"])
def test_a_pattern_of_modules_to_compile_matches(pattern: str) -> None:
    assert [*ROOT.glob(pattern)]


# --- scripts -------------------------------------------------------------------------------------


@pytest.mark.parametrize("script", [".ci/run", "scripts/serve", "scripts/test"])
def test_a_script_can_be_run(script: str) -> None:
    assert os.access(ROOT / script, os.X_OK)
    subprocess.run(["bash", "-n", ROOT / script], check=True)


@pytest.mark.parametrize(
    ("arguments", "variables", "listen"),
    [
        ("", {}, "0.0.0.0:4000"),
        # HOST PORT, or --listen, takes precedence over the variable.
        ("--quiet --keep-bans --rate 5 :: 1", {}, "0.0.0.0:4000"),
        ("--config x --quiet", {}, ""),
        ("--config=x", {}, ""),
        ("--quiet", {"CHATROOM_CONFIG": "x"}, ""),
        ("--quiet", {"CHATROOM_LISTEN": "h:1"}, "h:1"),
        ("--quiet", {"CHATROOM_LISTEN": ""}, "0.0.0.0:4000"),
    ],
)
def test_serve_supplies_an_address_if_none_is_given(
    arguments: str, variables: dict[str, str], listen: str, tmp_path: Path
) -> None:
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\n[ "$1" = -c ] || echo "$CHATROOM_LISTEN|$@"\n')
    python.chmod(0o755)
    said = subprocess.run(
        [ROOT / "scripts/serve", *arguments.split()],
        env={"PATH": os.environ["PATH"], "PYTHON": str(python), **variables},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    assert said.stdout.split() == f"{listen}|-m chatroom {arguments}".split()


@pytest.mark.parametrize("name", PACKAGES)
def test_ci_installs_every_program_that_tests_use(name: str) -> None:
    assert f"{name}={PACKAGES[name]}" in (ROOT / ".ci/run").read_text()


def test_a_program_is_found_in_a_system_folder_outside_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "ncat").touch(0o755)
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr(programs, "SYSTEM", [str(tmp_path)])
    assert program("ncat") == str(tmp_path / "ncat")


@pytest.mark.parametrize(("ci", "outcome"), [("", pytest.skip), ("true", pytest.fail)])
def test_a_missing_program_skips_a_test_and_fails_it_in_ci(
    ci: str, outcome: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr(programs, "SYSTEM", [])
    monkeypatch.setenv("CI", ci)
    with pytest.raises(outcome.Exception, match="apt-get install redis-server"):
        program("redis-server")
