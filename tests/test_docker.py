"""Tests of the Dockerfile without Docker, because CI has no Docker and builds no image.

The tests run the commands of the Dockerfile, with other paths and another port.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.system.ports import free_port

ROOT = Path(__file__).parent.parent


def instructions() -> list[tuple[str, str]]:
    lines = (ROOT / "Dockerfile").read_text().splitlines()
    told = (line.partition(" ") for line in lines if line and not line.startswith("#"))
    return [(name, rest) for name, _, rest in told]


def all_of(name: str) -> list[str]:
    return [rest for found, rest in instructions() if found == name]


def words(name: str) -> list[str]:
    """Return the words of the only instruction with this name, which must be in JSON form (no
    shell)."""
    [rest] = all_of(name)
    found: list[str] = json.loads(rest[rest.index("[") :])
    return found


def test_each_instruction_is_known_to_docker() -> None:
    known = {"CMD", "COPY", "ENTRYPOINT", "ENV", "EXPOSE", "FROM", "HEALTHCHECK", "RUN", "USER"}
    assert {name for name, _ in instructions()} <= known | {"WORKDIR"}


def test_the_image_is_built_in_two_stages_of_one_python() -> None:
    """Only the first stage has a compiler."""
    build, last = all_of("FROM")
    assert f"{build.removesuffix(' AS build')}-slim" == last
    assert last.startswith("python:3.")
    assert "CHATROOM_COMPILE=1" in all_of("ENV")


def test_the_room_runs_as_an_unprivileged_user_in_its_own_folder() -> None:
    [user] = all_of("USER")
    uid, gid = user.split(":")
    assert int(uid) > 0
    folder = all_of("RUN")[-1]
    for part in (f"--owner={uid} ", f"--group={gid} ", "--mode=0700 /run/chatroom"):
        assert part in folder
    names = [name for name, _ in instructions()]
    assert max(at for at, name in enumerate(names) if name == "RUN") < names.index("USER")


def test_the_exposed_port_is_the_one_the_room_listens_on() -> None:
    assert all_of("EXPOSE") == [words("CMD")[-1]]


def test_the_health_check_uses_the_room_s_run_dir() -> None:
    assert words("ENTRYPOINT")[-2:] == words("HEALTHCHECK")[-2:] == ["--run-dir", "/run/chatroom"]


def context(folder: Path) -> Path:
    """Copy the files that Docker would copy, as .dockerignore says; return their folder."""
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    for name in (line[1:] for line in lines if line.startswith("!")):
        if (ROOT / name).is_dir():
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / name, folder / name, ignore=ignored)
        else:
            folder.mkdir(exist_ok=True)
            shutil.copy(ROOT / name, folder)
    return folder


@pytest.mark.package
@pytest.mark.timeout(300)
def test_the_commands_build_a_room_that_passes_its_health_check(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    where = {"/opt/chatroom": f"{tmp_path}/opt", "/run/chatroom": f"{tmp_path}/run"}
    where |= {"0.0.0.0": "127.0.0.1", "4000": str(free_port())}

    def here(text: str) -> str:
        for old, new in where.items():
            text = text.replace(old, new)
        return text.replace("10001", str(os.getuid()))

    monkeypatch.delenv("PYTHONPATH", raising=False)
    monkeypatch.setenv("CHATROOM_COMPILE", "0")  # A pure build takes less time.
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=os.pathsep)
    for command in all_of("RUN"):
        subprocess.run(["sh", "-c", here(command)], cwd=context(tmp_path / "src"), check=True)
        shutil.rmtree(tmp_path / "src")
    monkeypatch.setenv("PATH", f"{tmp_path}/opt/bin", prepend=os.pathsep)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    room = [here(word) for word in words("ENTRYPOINT") + words("CMD")]
    check = [here(word) for word in words("HEALTHCHECK")]
    with subprocess.Popen(room, cwd=elsewhere, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline().startswith(b"listening on 127.0.0.1:")
            subprocess.run(check, cwd=elsewhere, check=True, timeout=10)
            process.send_signal(signal.SIGTERM)
            assert process.wait(10) == 0
        finally:
            process.kill()
    assert subprocess.run(check, cwd=elsewhere, check=False, timeout=10).returncode == 1
