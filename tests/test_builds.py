"""Tests of the installed compiled wheel. `scripts/test -e compiled` runs these tests."""

import importlib
import importlib.metadata
import subprocess
import sys
from importlib.machinery import EXTENSION_SUFFIXES
from itertools import zip_longest
from pathlib import Path

import pytest

import chatroom
from chatroom.build import BUILD

ROOT = Path(__file__).parent.parent

pytestmark = pytest.mark.skipif(BUILD == "pure", reason="no compiled chatroom is installed")


def run(*arguments: str) -> str:
    return subprocess.run(
        [sys.executable, "-m", *arguments], cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True
    ).stdout


def test_commands_print_that_they_are_compiled() -> None:
    assert run("chatroom", "--version") == f"chatroom {chatroom.__version__} (compiled)\n"


def test_each_module_of_protocol_log_and_worker_is_compiled_and_has_its_source() -> None:
    package = Path(chatroom.__file__).parent
    sources = [
        path
        for folder in ("protocol", "log", "worker")
        for path in (package / folder).glob("*.py")
        if path.name != "__init__.py"
    ]
    assert len(sources) > 20
    for path in sources:
        name = ".".join(path.relative_to(package.parent).with_suffix("").parts)
        assert str(importlib.import_module(name).__file__).endswith(EXTENSION_SUFFIXES[0])


def test_the_wheel_is_tagged_for_this_python_and_platform() -> None:
    wheel = importlib.metadata.distribution("chatroom").read_text("WHEEL")
    assert wheel is not None
    assert "Root-Is-Purelib: false\n" in wheel
    assert f"\nTag: cp{sys.version_info[0]}{sys.version_info[1]}-" in wheel
    assert EXTENSION_SUFFIXES[0].startswith(f".cpython-{sys.version_info[0]}{sys.version_info[1]}")


@pytest.mark.sample(2)
@pytest.mark.parametrize("shift", range(10))
def test_both_builds_return_the_same_bytes(shift: int, pytestconfig: pytest.Config) -> None:
    seed = str(pytestconfig.option.seed + shift)
    compiled = run("tests.transcribe", "--seed", seed).splitlines()
    pure = run("tests.transcribe", "--seed", seed, "--sources").splitlines()
    assert (compiled.pop(0), pure.pop(0)) == ("compiled", "pure")
    assert len(pure) > 10_000
    differences = (pair for pair in zip_longest(pure, compiled) if pair[0] != pair[1])
    assert next(differences, None) is None
