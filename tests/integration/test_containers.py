"""A room in a container: as process 1, and on a read-only file system."""

import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tests.integration.rooms import DIED, ROOT
from tests.integration.waiting import PATIENCE
from tests.programs import program


def contained(namespaces: list[str], scene: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a scene, which is Python code, in new namespaces; return the ended process with its
    output.

    Skip the test if the kernel forbids the namespaces. The scene's argument is `folder`, which is
    also the parent of the default run-dir. The scene runs without coverage, which would write
    files.
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
    return done


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


def test_a_room_that_can_write_only_to_its_run_dir_is_found(tmp_path: Path) -> None:
    """The room and its health check run as with `docker run --read-only --tmpfs /run/chatroom`."""
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


def test_a_room_without_a_run_dir_logs_what_to_do(tmp_path: Path) -> None:
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


AS_PROCESS_1 = """
    import json, os, signal, socket, subprocess, sys
    from pathlib import Path
    from tests.integration.waiting import PATIENCE, until

    folder = sys.argv[1]
    os.chmod(folder, 0o700)
    notified = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    notified.bind(f"{folder}/notify")
    notified.settimeout(PATIENCE)
    words = f"-m chatroom --quiet --workers 2 --run-dir {folder} 127.0.0.1 0"
    if os.fork():
        os.environ["NOTIFY_SOCKET"] = f"{folder}/notify"
        os.execv(sys.executable, [sys.executable, *words.split()])

    def status():
        command = [sys.executable, "-m", "chatroom.status", "--json", "--run-dir", folder]
        return json.loads(subprocess.run(command, capture_output=True, check=True).stdout)

    def orphan():
        # A process whose parent has ended; it ends when the returned descriptor is closed.
        waits, ends = os.pipe()
        told, tells = os.pipe()
        parent = os.fork()
        if not parent:
            if not os.fork():
                os.close(ends)
                os.write(tells, b"%d" % os.getpid())
                os.read(waits, 1)
            os._exit(0)
        os.waitpid(parent, 0)
        return int(os.read(told, 9)), ends

    def parent_of(pid):
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])

    def zombies():
        states = [path.read_text().rpartition(")")[2].split()[0] for path in stats()]
        return states.count("Z")

    def stats():
        return [path for path in Path("/proc").glob("[0-9]*/stat") if path.exists()]

    try:
        while b"READY=1" not in notified.recv(4096):
            pass
        orphans = [orphan() for _ in range(5)]
        assert {parent_of(pid) for pid, _ in orphans} == {1}
        workers = [worker["pid"] for worker in status()["workers"]]
        for pid, end in orphans:
            os.close(end)
            if workers:
                os.kill(workers.pop(), signal.SIGKILL)
        left = [Path(f"/proc/{pid}") for pid, _ in orphans]
        until(lambda: not any(path.exists() for path in left), "all orphans are reaped")
        until(lambda: status()["room"]["worker_deaths"] == 2, "the workers' deaths are noticed")
        until(lambda: all(worker["ready"] for worker in status()["workers"]), "all are ready")
        assert zombies() == 0
        print("reaped", flush=True)
    finally:
        os.kill(1, signal.SIGTERM)
"""


def test_as_process_1_it_reaps_orphans_and_its_own_children(tmp_path: Path) -> None:
    namespaces = ["--pid", "--fork", "--kill-child", "--mount-proc"]
    done = contained(namespaces, AS_PROCESS_1, tmp_path)
    assert done.stdout.endswith("\nreaped\n"), done.stderr
    lines = done.stderr.splitlines()
    assert len([line for line in lines if re.search(DIED, line)]) == len(lines) == 2, done.stderr
