"""Tests of the wheel: built, installed into an empty environment, and used without the checkout."""

import argparse
import fcntl
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

import chatroom
from chatroom.cli import admin, server, status, web
from chatroom.client import command as client
from chatroom.config.options import OPTIONS
from chatroom.system.signals import HANDLED_SIGNALS
from harness.cli.main import build_parser

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

#: Timeout (s) of a build, which may have to download Hatchling.
BUILT_WITHIN = 180

#: Variables that hide the C compiler, so that a pure wheel is built. tests/test_builds.py tests the
#: compiled wheel.
NO_COMPILER = {"CC": "no-such-compiler", "CHATROOM_COMPILE": "auto"}
NO_COMPILER_SAYS = "there is no C compiler (no-such-compiler)"

pytestmark = [pytest.mark.package, pytest.mark.timeout(2 * BUILT_WITHIN)]


def once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], None]) -> Path:
    """Let `make` fill a folder, once for all processes of xdist; return this folder."""
    base = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        base = base.parent
    folder, made = base / name, base / f"{name}-made"
    with (base / f"{name}-lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.exists():
            shutil.rmtree(folder, ignore_errors=True)  # a failed attempt may have left it
            make(folder)
            made.touch()
    return folder


def call_pip(
    *arguments: object, code: int = 0, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pip", *map(str, arguments)]
    done = subprocess.run(
        command,
        env={**os.environ, **(environment or {})},
        check=False,
        capture_output=True,
        text=True,
        timeout=BUILT_WITHIN,
    )
    assert done.returncode == code, done.stderr
    return done


@pytest.fixture(name="wheel", scope="module")
def fixture_wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    def build(folder: Path) -> None:
        done = call_pip("wheel", "-v", "--no-deps", "-w", folder, ROOT, environment=NO_COMPILER)
        assert (
            f"chatroom is built in pure Python: {NO_COMPILER_SAYS}\n" in done.stdout + done.stderr
        )

    [found] = once(tmp_path_factory, "wheel", build).iterdir()
    return found


@pytest.fixture(name="bin", scope="module")
def fixture_bin(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the wheel in an empty environment without pip; return the folder of its commands."""

    def install(folder: Path) -> None:
        subprocess.run(
            [sys.executable, "-m", "venv", "--without-pip", folder], check=True, timeout=60
        )
        into = ["--python", folder / "bin/python"]
        call_pip(*into, "install", "-q", "--no-deps", "--no-index", wheel)

    return once(tmp_path_factory, "env", install) / "bin"


@pytest.fixture(name="elsewhere")
def fixture_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Change to an empty folder and hide the checkout from the environment; return the folder."""
    for name in ("PYTHONPATH", "XDG_RUNTIME_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(
    command: Path, *arguments: str, code: int = 0, text: str = ""
) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [command, *arguments],
        check=False,
        input=text,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == code, done
    return done


@contextmanager
def room(bin: Path) -> Iterator[tuple[str, "subprocess.Popen[str]"]]:
    command = [str(bin / "chatroom"), "--workers", "2", "127.0.0.1", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            listening = re.fullmatch(
                r"listening on 127\.0\.0\.1:(\d+)\n", process.stdout.readline()
            )
            assert listening is not None
            yield listening[1], process
            process.send_signal(signal.SIGINT)
            assert process.wait(10) == 0
        finally:
            process.kill()


def test_every_command_of_the_project_is_installed(bin: Path, elsewhere: Path) -> None:
    for script in PROJECT["scripts"]:
        assert run(bin / script, "--help").stdout.startswith("usage: ")
    version = run(bin / "chatroom", "--version").stdout
    assert version == f"chatroom {chatroom.__version__} (pure)\n"


def test_a_wheel_built_without_a_compiler_is_for_any_platform(wheel: Path) -> None:
    assert wheel.name == f"chatroom-{chatroom.__version__}-py3-none-any.whl"


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("1", f"chatroom can't be compiled: {NO_COMPILER_SAYS}"),
        ("yes", "CHATROOM_COMPILE must be 0, 1 or auto, not 'yes'"),
    ],
)
def test_the_build_fails_without_a_traceback(value: str, says: str, tmp_path: Path) -> None:
    environment = NO_COMPILER | {"CHATROOM_COMPILE": value}
    done = call_pip("wheel", "--no-deps", "-w", tmp_path, ROOT, code=1, environment=environment)
    assert says in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr


def test_a_room_can_be_started_joined_and_queried(bin: Path, elsewhere: Path) -> None:
    with room(bin) as (port, process):
        said = run(bin / "chatroom-client", "127.0.0.1", port, text="hello\n")
        assert said.stdout == "Welcome to socket practice\n"
        assert process.stdout is not None
        printed = [process.stdout.readline() for _ in range(2)]
        assert printed == ["127.0.0.1 connected\n", "<127.0.0.1>hello\n"]
        told = json.loads(run(bin / "chatroom-status", "--json").stdout)
        assert told["room"]["joins"] == 1
        assert "no member matches 7" in run(bin / "chatroom-admin", "kick", "7", code=1).stderr
    assert "no running room found" in run(bin / "chatroom-status", code=1).stderr


def test_a_command_that_needs_an_extra_names_it(bin: Path, elsewhere: Path) -> None:
    harness = bin / "chatroom-harness"
    assert 'pip install "chatroom[harness]"' in " ".join(run(harness, "--help").stdout.split())
    missing = run(harness, "conform", "--command", "false", code=2).stderr
    assert missing.endswith('; pip install "chatroom[harness]"\n')
    assert "classroom" in run(harness, "scenarios").stdout


def test_the_extras_are_named_in_the_wheel(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as content:
        [metadata] = [name for name in content.namelist() if name.endswith(".dist-info/METADATA")]
        lines = content.read(metadata).decode().splitlines()
    extras = {line.removeprefix("Provides-Extra: ") for line in lines if "-Extra: " in line}
    assert {"all", "client", "harness", "metrics"} <= extras


@pytest.mark.parametrize("script", PROJECT["scripts"])
def test_each_command_has_a_manual_page(script: str, bin: Path) -> None:
    page = (bin.parent / f"share/man/man1/{script}.1").read_text()
    name = script.upper().replace("-", "\\-")
    assert page.startswith(f'.TH {name} "1" ')
    assert f'"chatroom {chatroom.__version__}"' in page
    text = page.replace("\\-", "-")
    assert f"\n{script} - " in text, "the name, and then a description"
    assert "python -m" not in text, "the installed command is named"
    text = text.replace("/tmp/chatroom-UID", "")
    for here in ("/tmp", "/run/user", os.path.expanduser("~")):
        assert here not in text, "a path of the machine that built the wheel"
    assert not re.search(r"^'", page, re.MULTILINE), "no line is a troff request by accident"


def sections(page: str) -> dict[str, str]:
    """Return the text of each section of a manual page."""
    parts = re.split(r"^\.SH *\n?(.+)\n", page.replace("\\-", "-"), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


PARSERS: dict[str, Callable[[], argparse.ArgumentParser]] = {
    "chatroom": server.parser,
    "chatroom-admin": admin.parser,
    "chatroom-client": client.parser,
    "chatroom-harness": build_parser,
    "chatroom-status": status.parser,
    "chatroom-web": web.parser,
}


@pytest.mark.parametrize("script", PROJECT["scripts"])
def test_each_manual_page_has_signals_exit_codes_files_and_examples(script: str, bin: Path) -> None:
    found = sections((bin.parent / f"share/man/man1/{script}.1").read_text())
    for name in ("SIGNALS", "EXIT STATUS", "FILES", "EXAMPLES", "SEE ALSO"):
        assert found[name].strip()
    for code in ("0", "1", "2"):
        assert f"\\fB{code}\\fR" in found["EXIT STATUS"]
    examples = [line for line in found["EXAMPLES"].splitlines() if not line.startswith(".")]
    for line in examples:
        words = shlex.split(line.rpartition(" | ")[2])
        assert words[0] == script
        PARSERS[script]().parse_args(words[1:])


def test_the_manual_has_the_signals_and_exit_codes_of_the_documentation(bin: Path) -> None:
    found = sections((bin.parent / "share/man/man1/chatroom.1").read_text())
    page = (ROOT / "docs/configuration.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| (SIG[A-Z12, ]+|\d) \| (.+) \|$", page, re.MULTILINE))
    told = dict(
        re.findall(r"\.TP\n\\fB(.+)\\fR\n(.+)", found["SIGNALS"] + "\n" + found["EXIT STATUS"])
    )
    assert rows.keys() == told.keys()
    assert {number.name for number in HANDLED_SIGNALS} <= {*", ".join(told).split(", ")}


def test_the_manual_lists_every_option_of_the_room(bin: Path) -> None:
    text = (bin.parent / "share/man/man1/chatroom.1").read_text().replace("\\-", "-")
    for key in ("config", "version", *(option.key for option in OPTIONS)):
        assert f"\\fB--{key}\\fR" in text
    assert "(default: one for each usable core)" in text
