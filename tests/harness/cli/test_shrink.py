"""The command `shrink`, and the Python file that it writes, which runs without the harness."""

import ast
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest

from harness import profile
from harness.cli.shrink import Manner, file_of, manner_of
from harness.simulation.history import COMPLETE, HISTORY, VERSION, write
from harness.simulation.judge import Violation
from harness.simulation.shrink.reduce import Script, lines, people
from harness.target.processes import ROOT
from tests.harness.commands import Done, Harness, in_time
from tests.harness.simulation.recording import PYTHON, REFERENCE, record, running
from tests.harness.simulation.story import Story

TALK = """
seconds = 1
[[population]]
name = "people"
clients = 5
rate = 12
pieces = [1, 2]
pause = 0.002
"""

#: A server that loses, doubles or swaps every third line of a member. NAME is one of its classes.
EVERY_THIRD = """
import sys
from harness.reference.broken import *
class Loses(Noting):
    def recipients(self, sender):
        return super().recipients(sender) if self.said[sender] % 3 else []
class Doubles(Noting):
    def broadcast(self, sender, message):
        super().broadcast(sender, message)
        if self.said[sender] % 3 == 0:
            Server.broadcast(self, sender, message)
class Swaps(SwapsNeighbours):
    def broadcast(self, sender, message):
        if self.said[sender] % 3 == 1 and b"that was all" not in message:
            self.said[sender] += 1
            self.held[sender] = message
        else:
            Noting.broadcast(self, sender, message)
            self.release(sender)
NAME(Options(sys.argv[1], int(sys.argv[2]))).run()
"""


def every_third(name: str) -> str:
    return f"{PYTHON} -c {shlex.quote(EVERY_THIRD.replace('NAME', name))} {{host}} {{port}}"


def shrink(harness: Harness, command: str | None, *options: str, code: int = 0) -> Done:
    target = () if command is None else ("--command", command)
    return harness("shrink", HISTORY, *target, *options, code=code)


@contextmanager
def started(folder: Path, command: str) -> Iterator[subprocess.Popen[str]]:
    """Start `shrink` as a process; at the end, send it SIGTERM, so that it stops its server."""
    with subprocess.Popen(
        [sys.executable, "-m", "harness", "shrink", HISTORY, "--command", command],
        cwd=folder,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.terminate()


def script_in(file: Path) -> Script:
    """Return the value that the file assigns to SCRIPT."""
    (found,) = (
        node.value
        for node in ast.parse(file.read_text()).body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "SCRIPT"
    )
    script: Script = ast.literal_eval(found)
    return script


def play(file: Path, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the file with a Python that can't import the harness, in an empty folder."""
    folder.mkdir(exist_ok=True)
    done = subprocess.run(
        [sys.executable, "-I", str(file), *arguments],
        cwd=folder,
        env={},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert "Traceback" not in done.stderr
    assert [*folder.iterdir()] == []
    return done


@pytest.mark.timeout(180)
@pytest.mark.sample(1)
@pytest.mark.parametrize(
    ("name", "kind", "clause"),
    [
        ("Loses", "lost", "CAST-1"),
        ("Doubles", "duplicated", "CAST-1"),
        ("Swaps", "misordered", "CAST-4"),
    ],
)
def test_a_violation_is_shrunk_to_a_file_that_needs_only_python(
    name: str, kind: str, clause: str, harness: Harness, tmp_path: Path
) -> None:
    wrong = every_third(name)
    recorded = record(tmp_path, TALK, wrong)
    said = sum("says" in event and not event.get("final") for event in recorded.events)
    assert said > 40
    done = shrink(harness, wrong, "--tries", "1")
    summary = "clients: 2, lines: 2"
    assert done.stdout == f"{summary}; to see it: python3 shrunk.py HOST PORT\n"
    progress = done.stderr.splitlines()
    assert progress[0] == f"{kind}, of clients: 5, lines: {said}"
    assert progress[-1].startswith(summary)

    file = tmp_path / "shrunk.py"
    text = ast.get_docstring(ast.parse(file.read_text())) or ""
    assert text.startswith(f"{kind} ({clause}): ")
    assert "python3 shrunk.py HOST PORT" in text
    script = script_in(file)
    assert (len(people(script)), lines(script)) == (2, 2), (
        "the replay itself sends a third line, the final message"
    )
    assert [step[0] for step in script] == ["join", "join", "say", "say"]
    tokens = [b"".join(step[2]) for step in script[2:]]
    assert all(token.endswith(b":") for token in tokens), "shrink removes the text after each token"

    for command, status in ((wrong, 1), (REFERENCE, 0)):

        def attempt(command: str = command) -> subprocess.CompletedProcess[str]:
            with running(command) as target:
                return play(file, tmp_path / "empty", target.host, str(target.port))

        # On a busy machine, the welcome may arrive later than the file waits for it.
        found = in_time(attempt, lambda found: "unwelcomed" in found.stdout)
        assert found.returncode == status, found.stdout + found.stderr
        if status:
            assert found.stdout.startswith(f"{kind}: ")
        else:
            assert found.stdout == "no violation\n"


def test_the_text_that_causes_the_violation_is_kept(harness: Harness, tmp_path: Path) -> None:
    story = Story(3)
    story.say("msg0.0", b"all is well")
    story.say("msg0.1", b"what She says")
    story.all_hear("msg0.0", "msg0.1", but=1)
    story.hear(1, "msg0.0")
    story.line(1, b"<127.0.0.2>msg0.1:what she says")
    write_history(tmp_path, story)
    shrink(harness, f"{REFERENCE} --broken lowercases", "--tries", "1", "--out", "mine.py")
    assert not (tmp_path / "shrunk.py").exists()
    *_, (kind, _, (text,)) = script_in(tmp_path / "mine.py")
    assert kind == "say"
    _, _, rest = text.decode().partition(":")
    assert len(rest) == 1
    assert rest.isupper()


def test_a_violation_that_does_not_recur_is_reported(harness: Harness, tmp_path: Path) -> None:
    write_history(tmp_path, echoed())
    done = shrink(harness, REFERENCE, "--tries", "1", code=2)
    assert "'echoed' does not recur with --tries 1, with or without waits" in done.stderr
    assert done.stderr.endswith("leaves out: times\n")
    assert not (tmp_path / "shrunk.py").exists()


def test_a_violation_that_needs_a_fault_of_the_target_does_not_recur(
    harness: Harness, tmp_path: Path
) -> None:
    story = Story(3)
    story.fault("kill-worker")
    story.what(1, "ended", how="reset")
    write_history(tmp_path, story)
    done = shrink(harness, REFERENCE, "--tries", "1", code=2)
    assert "'disconnected' does not recur" in done.stderr
    assert done.stderr.endswith("leaves out: times, kill-worker of the target (1)\n")


@pytest.mark.sample(1)
@pytest.mark.parametrize("progress_lines", [1, 2, 3])
def test_an_interrupt_leaves_no_file_or_process_behind(progress_lines: int, tmp_path: Path) -> None:
    write_history(tmp_path, echoed())
    with started(tmp_path, f"{REFERENCE} --broken echoes") as process:
        assert process.stderr is not None
        for _ in range(progress_lines):
            process.stderr.readline()  # after each line, `shrink` restarts its server
        process.terminate()
        out, err = process.communicate(timeout=30)
    assert (process.returncode, out, err.splitlines()[-1]) == (130, "", "interrupted")
    assert [path.name for path in tmp_path.iterdir()] == [HISTORY]
    assert [process for process in psutil.process_iter() if runs_in(tmp_path, process)] == []


def runs_in(folder: Path, process: psutil.Process) -> bool:
    with suppress(psutil.Error):
        return process.cwd() == str(folder)
    return False


@pytest.mark.parametrize(
    ("arguments", "code", "complaint"),
    [
        ((), 2, "give either --command or --target"),
        (("--command", "true"), 2, "the command must contain {port}"),
        (("--command", "true {port}"), 3, "the target did not start: it ended"),
        (("--target", "127.0.0.1:1"), 3, "the target did not start: 127.0.0.1:1 can't be reached"),
    ],
)
def test_a_target_is_required(
    arguments: tuple[str, ...], code: int, complaint: str, harness: Harness, tmp_path: Path
) -> None:
    story = Story(2)
    story.what(1, "ended", how="reset")
    write_history(tmp_path, story)
    done = shrink(harness, None, *arguments, code=code)
    assert complaint in done.stderr
    assert done.stderr.count("\n") == 1


def echoed() -> Story:
    """Return a story in which all clients hear their own messages."""
    names = [f"msg{who}.{number}" for number in range(4) for who in range(4)]
    story = Story(4)
    for name in names:
        story.say(name, b"a text with much to leave out")
    for who in range(4):
        story.hear(who, *names)
    return story


def write_history(folder: Path, story: Story) -> None:
    with (folder / HISTORY).open("w") as file:
        for event in ({"history": VERSION}, *story.events, {"t": 100, "end": COMPLETE}):
            write(event, file)


def test_a_history_without_violations_is_an_error(harness: Harness, tmp_path: Path) -> None:
    write_history(tmp_path, Story(2))
    done = shrink(harness, REFERENCE, code=2)
    assert "shows no violation" in done.stderr
    assert done.stderr.count("\n") == 1


ASKS = "asks.toml"  # the profile of a server with a login


@pytest.mark.parametrize(
    ("text", "options", "complaint"),
    [
        ("", (), "is empty"),
        ("{}\n", (), "is not a history"),
        (None, (), "can't be read: No such file"),
        ('{"history":2}\n', ("--profile", "nope"), "profile 'nope'"),
        ('{"history":2}\n', ("--profile", ASKS), "can't play the dialect of 'asks': a login"),
        ('{"history":2}\n', ("--tries", "0"), "must be 1 or more"),
        ('{"history":2}\n', ("--out", "nowhere/x.py"), "can't be written"),
        ('{"history":2}\n', ("--out", HISTORY), "exists; name another file with --out"),
    ],
)
def test_an_error_is_reported_in_one_line(
    text: str | None, options: tuple[str, ...], complaint: str, harness: Harness, tmp_path: Path
) -> None:
    if text is not None:
        (tmp_path / HISTORY).write_text(text)
    (tmp_path / ASKS).write_text("[[login]]\nsends = '{name}'\n")
    done = shrink(harness, REFERENCE, *options, code=2)
    assert complaint in done.stderr
    assert done.stderr.count("\n") == 1
    assert text is None or (tmp_path / HISTORY).read_text() == text


@pytest.mark.parametrize(
    ("shown", "manner", "played"),
    [
        ("yyy", Manner(False, 1), 3),
        ("nyn", Manner(False, 3), 3),
        ("nnnyyy", Manner(True, 1), 6),
        ("nnnnny", Manner(True, 3), 6),
        ("nnnnnn", None, 6),
    ],
)
def test_a_violation_that_occurs_in_every_try_needs_only_one_try_later(
    shown: str, manner: Manner | None, played: int
) -> None:
    asked: list[bool] = []

    def shows(hurry: bool) -> bool:
        asked.append(hurry)
        return shown[len(asked) - 1] == "y"

    assert manner_of(shows, 3) == manner
    assert asked == [False] * 3 + [True] * (played - 3)


def test_the_file_describes_a_violation_with_any_characters(tmp_path: Path) -> None:
    says = 'heard \\N and \'"""\' of “{0}”\x1b[2J'
    target = 'sh -c "exec \\"$0\\" {host} {port}" \'"""\''
    script: Script = [["join", 0, "127.0.0.2"], ["say", 0, [b'msg0.0:"""{x}']]]
    violation = Violation("torn", "CAST-3", 0.0, 1, "msg0.0", says)
    text = file_of(script, True, violation, target, profile.load("tutorial"), 'my "x".py')
    file = tmp_path / "file.py"
    file.write_text(text)
    about = ast.get_docstring(ast.parse(text)) or ""
    assert about.startswith("torn (CAST-3): " + says.replace("\x1b", "\ufffd"))
    assert target in about
    assert script_in(file) == script
    for arguments in ((), ("127.0.0.1",), ("127.0.0.1", "http"), ("127.0.0.1", "65536")):
        usage = play(file, tmp_path / "empty", *arguments)
        assert (usage.returncode, usage.stdout) == (2, "")
        assert usage.stderr == f"usage: python3 {file} HOST PORT\n"
    with running(REFERENCE) as target_there:
        host, port = target_there.address
    nobody = play(file, tmp_path / "empty", host, str(port))
    assert (nobody.returncode, nobody.stdout) == (2, "")
    assert nobody.stderr.startswith(f"{host}:{port}: ")
    assert nobody.stderr.count("\n") == 1
