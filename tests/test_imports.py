"""Tests of the modules that each process imports. Imports take most of the time of a start."""

import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from chatroom.config.settings import Settings
from chatroom.sidecars.transcript import process as transcript
from chatroom.supervisor import registry
from chatroom.worker import process as worker

ROOT = Path(__file__).parent.parent

CHILD = """
import pickle, sys
before = set(sys.modules)
pickle.load(sys.stdin.buffer)
print(*(set(sys.modules) - before))
"""

COMMAND = """
import sys
from importlib import import_module
before = set(sys.modules)
try:
    import_module(sys.argv.pop(1)).main()
except SystemExit:
    print()
    print(*(set(sys.modules) - before))
"""

SLOW = {"argparse", "dataclasses", "logging", "multiprocessing", "subprocess"}
"""Modules whose import takes at least 5 ms of processor time, with all that they import."""


def imports(code: str, *arguments: str, given: bytes = b"") -> set[str]:
    """Return the modules that a new process has imported when its program ends."""
    run = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        input=given,
        check=True,
        capture_output=True,
        cwd=ROOT,
    )
    return set(run.stdout.decode().splitlines()[-1].split())


def packages(modules: set[str]) -> set[str]:
    """Return the names of modules and packages directly in chatroom/."""
    names = (name.split(".") for name in modules)
    return {name[1] for name in names if name[0] == "chatroom" and len(name) > 1}


@pytest.mark.parametrize(
    ("call", "uses"),
    [
        (
            (worker.main, 0, Settings().limits),
            {"config", "log", "protocol", "system", "wording", "worker"},
        ),
        (
            (transcript.main, Path("file"), "", "", Settings().limits),
            {"config", "log", "protocol", "sidecars", "system", "wording"},
        ),
        ((registry.main,), {"protocol", "supervisor"}),
    ],
    ids=["worker", "transcript", "registry"],
)
def test_a_child_imports_only_what_it_needs(
    call: tuple[Callable[..., None], object], uses: set[str]
) -> None:
    """A child imports its target function, and the classes of its arguments."""
    found = imports(CHILD, given=pickle.dumps(call))
    assert call[0].__module__ in found
    assert packages(found) <= uses
    assert not found & (SLOW | {"chatroom.config.options", "chatroom.config.settings"})


def test_the_registry_s_process_does_not_import_the_main_process_s_parts() -> None:
    found = imports(CHILD, given=pickle.dumps(registry.main))
    assert {name for name in found if name.startswith("chatroom.supervisor.")} == {
        "chatroom.supervisor.placement",
        "chatroom.supervisor.registry",
    }
    code = "import sys, chatroom.supervisor.registry_manager; print(*sys.modules)"
    assert not {name for name in imports(code) if name.startswith("chatroom.supervisor.")} - {
        "chatroom.supervisor.registry_manager"
    }


def test_the_main_process_does_not_import_multiprocessing_before_it_starts_children() -> None:
    code = "import sys, chatroom.supervisor.supervisor; print(*sys.modules)"
    assert "multiprocessing" not in imports(code)


def test_a_room_without_a_page_imports_neither_asyncio_nor_openssl() -> None:
    code = "import sys, chatroom.supervisor.supervisor; print(*sys.modules)"
    assert not imports(code) & {"asyncio", "ssl", "websockets"}
    code = "import sys, chatroom.supervisor.web; print(*sys.modules)"
    assert not imports(code) & {"asyncio", "ssl", "websockets"}, "only the gateway's process does"


@pytest.mark.parametrize("option", ["--help", "--version", "--unknown"])
def test_a_command_line_without_a_room_imports_no_room(option: str) -> None:
    found = imports(COMMAND, "chatroom.__main__", option)
    assert "chatroom.config.options" in found
    assert not packages(found) & {"control", "log", "sidecars", "supervisor", "worker"}
    assert not found & (SLOW - {"argparse", "dataclasses"})


@pytest.mark.parametrize("program", ["chatroom.status", "chatroom.admin"])
def test_a_command_of_the_owner_imports_no_room(program: str, tmp_path: Path) -> None:
    orders = ["list"] if program == "chatroom.admin" else []
    found = imports(COMMAND, program, "--run-dir", str(tmp_path), *orders)
    assert "chatroom.control.control_socket" in found
    assert not packages(found) & {"log", "sidecars", "supervisor", "worker"}
    assert not found & ((SLOW | {"asyncio", "nats"}) - {"argparse"})
