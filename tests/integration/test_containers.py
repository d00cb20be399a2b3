"""A room in a container: a system that is read-only."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tests.integration.rooms import ROOT
from tests.integration.waiting import PATIENCE
from tests.programs import program


def contained(namespaces: list[str], scene: str, folder: Path) -> None:
    """Run a scene, a text of Python, in new namespaces; skip the test if the kernel forbids them.

    The scene's argument is `folder`, where the default run-dir is looked for, too. The scene is run
    without coverage, which would write files.
    """
    private = [program("unshare"), *namespaces]
    if os.geteuid() != 0:
        private.append("--map-root-user")
    command = [*private, sys.executable, "-c", textwrap.dedent(scene), str(folder)]
    environment = {
        name: text
        for name, text in os.environ.items()
        if "COVERAGE" not in name and name != "XDG_RUNTIME_DIR"
    }
    done = subprocess.run(
        command,
        cwd=ROOT,
        env=environment | {"TMPDIR": str(folder)},
        capture_output=True,
        text=True,
        timeout=2 * PATIENCE,
        check=False,
    )
    if "unshare failed" in done.stderr and not os.environ.get("CI"):
        pytest.skip(f"no namespaces: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr


READ_ONLY = """
    import os, subprocess, sys
    from contextlib import contextmanager
    from tests.integration.confined import AT_RECURSIVE, read_only

    folder = f"{sys.argv[1]}/run"
    os.mkdir(folder)
    missing = f"{sys.argv[1]}/chatroom-{os.getuid()}"

    def command(words):
        return [sys.executable, "-m", *words.split()]

    def run(words):
        done = subprocess.run(command(words), capture_output=True, text=True, timeout=30)
        return done.returncode, done.stderr

    @contextmanager
    def room(words, errors=None):
        with subprocess.Popen(command(words), stdout=-1, stderr=errors, text=True) as process:
            try:
                line = process.stdout.readline()
                assert line.startswith("listening on "), line
                yield process
            finally:
                process.terminate()
        assert process.returncode == 0

    read_only("/", True, AT_RECURSIVE)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=0700", "none", folder], check=True)
    for writes in (folder, "/tmp", "."):
        assert os.access(writes, os.W_OK) == (writes == folder)
"""


def test_a_room_that_can_write_to_its_run_dir_alone_is_found_there(tmp_path: Path) -> None:
    """As in `docker run --read-only --tmpfs /run/chatroom`, with the health check."""
    scene = """
    for ask in ("status", "admin list"):
        module, *order = ask.split()
        code, error = run(f"chatroom.{module} --run-dir {folder} {' '.join(order)}")
        assert (code, error) == (
            1, f"python -m chatroom.{module}: no running room found in {folder}\\n"
        )
    with room(f"chatroom --quiet --run-dir {folder} 127.0.0.1 0"):
        assert run(f"chatroom.status --run-dir {folder}") == (0, "")
        assert run(f"chatroom.admin --run-dir {folder} list") == (0, "")
    """
    contained(["--mount"], READ_ONLY + scene, tmp_path)


def test_a_room_without_a_run_dir_says_what_to_do(tmp_path: Path) -> None:
    scene = """
    why = f"the run-dir {missing} can't be made: Read-only file system"
    with room("chatroom --quiet 127.0.0.1 0", subprocess.PIPE) as process:
        assert run("chatroom.status --help") == (0, "")
        code, error = run("chatroom.status")
        assert (code, error) == (
            1, f"python -m chatroom.status: no running room found in {missing}\\n"
        )
        process.terminate()
        [line] = process.stderr.read().splitlines()
    assert f' event=no-control error="{why}" ' in line, line
    assert line.endswith('unavailable; set another --run-dir"'), line
    code, error = run("chatroom --keep-bans 127.0.0.1 0")
    assert (code, error) == (
        1, f"python -m chatroom: {why}; --keep-bans needs one: set --run-dir\\n"
    )
    """
    contained(["--mount"], READ_ONLY + scene, tmp_path)
