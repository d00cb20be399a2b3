"""The command `conform`, with correct and broken servers."""

import contextlib
import json
import os
import pty
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from rich.console import Console

from harness.clauses import clauses_of_kind
from harness.cli.conform import show_on
from harness.cli.main import main
from harness.conformance import runner
from harness.conformance.diagnosis.diagnose import PATTERNS
from tests.harness.commands import Harness
from tests.harness.noted import NOTED, no_server_is_left, servers_are_there

ROOT = Path(__file__).parents[3]
PYTHON = shlex.quote(sys.executable)
REFERENCE = f"{PYTHON} -m harness.reference {{host}} {{port}}"
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}


def test_a_correct_server_passes(harness: Harness, tmp_path: Path) -> None:
    arguments = ["--command", REFERENCE, "--only", "CAST-2", "LINE-4", "--seed", "7"]
    done = harness("conform", *arguments, "--jobs", "2", "--report", "out")
    assert done.stdout.splitlines()[-1] == "PASS: 2 passed"
    assert f"judging {REFERENCE}, profile chatroom, seed 7\n" in done.stderr
    assert "Broadcast: 1 pass\n" in done.stderr

    record = json.loads((tmp_path / "out/results.json").read_text())
    of_lines = list(clauses_of_kind(on_websockets=False))
    assert [clause["id"] for clause in record["clauses"]] == of_lines
    assert (record["verdict"], record["seed"], record["profile"]) == ("pass", 7, "chatroom")
    assert record["target"] == {"command": REFERENCE}
    by_id = {clause["id"]: clause for clause in record["clauses"]}
    assert by_id["CAST-2"]["evidence"] == "absent-within-window"
    assert by_id["CAST-2"]["tests"][0]["verdict"] == "pass"
    assert (by_id["CAST-1"]["verdict"], by_id["CAST-1"]["detail"]) == ("unknown", "not run")
    assert "wire log" in (tmp_path / "out/report.html").read_text(encoding="utf-8")
    junit = (tmp_path / "out/junit.xml").read_text()
    assert len(list(ET.fromstring(junit).iter("testcase"))) == 2
    assert "sends" not in junit


def test_a_violation_is_shown_explained_and_fails(harness: Harness, tmp_path: Path) -> None:
    command = f"{REFERENCE} --broken echoes"
    only = ("--only", "CAST-2", "CAST-7", "--report", "out")
    done = harness("conform", "--command", command, *only, code=1)
    assert "CAST-2 MUST  A message never reaches its sender." in done.stdout
    assert "  Usual cause: The server sends a message to all its clients" in done.stdout
    record = json.loads((tmp_path / "out/results.json").read_text())
    [test] = next(clause["tests"] for clause in record["clauses"] if clause["id"] == "CAST-2")
    assert re.fullmatch(r'[A-Z] sent "z\w+\\n", and received it, too\.', test["detail"])
    assert test["cause"] == next(each.cause for each in PATTERNS if each.name == "an echo")
    assert "    wire" in done.stdout
    assert done.stdout.endswith("FAIL: 1 passed, 1 failed\n")
    [seed] = re.findall(r", seed (\d+)$", done.stderr, re.MULTILINE)
    assert done.stderr.endswith(f"\nto repeat the failed tests, add --only CAST-2 --seed {seed}\n")
    assert all(line.isprintable() for line in (done.stdout + done.stderr).split("\n"))


@pytest.mark.parametrize(
    ("more", "status"),
    [([], 0), (["--strict"], 1), (["--profile", "chatroom"], 1), (["--strict", "known"], 0)],
)
def test_a_should_clause_decides_only_if_strict_or_claimed(
    more: list[str], status: int, harness: Harness
) -> None:
    broken = f"{REFERENCE} --broken {a_server_that_breaks('WELCOME-4')}"
    if "known" in more:
        Path("known").write_text("WELCOME-4 # we know\n")
        more = ["--strict", "--known-failures", "known"]
    only = ("--only", "WELCOME-4", "CAST-7", "--jobs", "1")
    harness("conform", "--command", broken, *only, *more, code=status)


def a_server_that_breaks(clause: str) -> str:
    from harness.reference.broken import REGISTRY

    return next(name for name, (_, clauses) in REGISTRY.items() if clauses == {clause})


@contextlib.contextmanager
def running(folder: Path, *program: str) -> Iterator[str]:
    """Start a server, not through the harness; yield its address."""
    with subprocess.Popen(
        [sys.executable, *program, "127.0.0.1", "0", "--announce"],
        cwd=folder,
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        text=True,
    ) as server:
        assert server.stdout
        try:
            yield server.stdout.readline().split()[-1]
        finally:
            server.kill()


def test_a_server_that_already_runs_is_judged(harness: Harness, tmp_path: Path) -> None:
    with running(tmp_path, "-m", "harness.reference") as address:
        done = harness(
            "conform",
            "--target",
            address,
            "--only",
            "WELCOME-1",
            "WELCOME-2",
            "WELCOME-3",
            "WELCOME-4",
        )
    assert done.stdout.endswith("PASS: 4 passed\n")


def test_a_gateway_is_judged_by_the_clauses_on_websockets(harness: Harness, tmp_path: Path) -> None:
    only = ("--only", "WS-5", "WS-10")
    command = f"{PYTHON} -m harness.reference.gateway {{host}} {{port}} --broken needs-no-mask"
    url = "ws://{host}:{port}/room"
    arguments = ["--command", command, "--ws", url, *only, "--report", "out"]
    done = harness("conform", *arguments, code=1)
    assert f"judging {command}, {url}, seed " in done.stderr
    assert "WS-5 MUST  A frame without a mask fails the connection.\n" in done.stdout
    assert done.stdout.endswith("FAIL: 1 passed, 1 failed\n")
    record = json.loads((tmp_path / "out/results.json").read_text())
    assert [clause["id"] for clause in record["clauses"]] == [*clauses_of_kind(on_websockets=True)]

    with running(tmp_path, "-m", "harness.reference.gateway") as address:
        done = harness("conform", "--ws", f"ws://{address}/room", *only)
    assert done.stdout.endswith("PASS: 2 passed\n")


def test_clauses_after_the_death_of_a_running_server_are_unknown(
    harness: Harness, tmp_path: Path
) -> None:
    only = ["--only", "CAST-7", "LINE-4", "TEXT-1", "WELCOME-2", "--report", "out"]
    with running(tmp_path, "-c", DIES_OF_AN_EMPTY_LINE) as address:
        done = harness("conform", "--target", address, *only, code=1)
    assert done.stdout.endswith("FAIL: 1 passed, 2 failed, 2 not decided\n")
    assert "\nbroken: JOIN-1 MUST " in done.stdout  # although --only does not name JOIN-1
    assert "\nbroken: LINE-4 MUST " in done.stdout
    clauses = json.loads((tmp_path / "out/results.json").read_text())["clauses"]
    found = {
        clause["id"]: (clause["verdict"], clause["detail"]) for clause in clauses if clause["tests"]
    }
    gone = f"the server at {address} has accepted no connections since LINE-4"
    assert found.pop("CAST-7")[0] == "pass"
    assert found.pop("LINE-4")[0] == "fail"
    assert found == {
        "JOIN-1": ("fail", f"The{gone.removeprefix('the')}."),
        "TEXT-1": ("unknown", gone),
        "WELCOME-2": ("unknown", gone),
    }


DIES_OF_AN_EMPTY_LINE = """
import os
from harness.reference import __main__, server
class Server(server.Server):
    def hear(self, member, data):
        if data == b"\\n":
            os._exit(1)
        super().hear(member, data)
__main__.Server = Server
__main__.main()
"""


def test_the_user_s_pytest_configuration_is_ignored(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text("raise RuntimeError\n")
    (tmp_path / "pytest.ini").write_text("[pytest]\naddopts = --nonsense\n")
    hostile = {"PYTEST_ADDOPTS": "--nonsense", "PYTEST_PLUGINS": "nonsense"}
    done = subprocess.run(
        [
            *(sys.executable, "-m", "harness", "conform"),
            *("--command", REFERENCE, "--only", "CAST-7"),
        ],
        cwd=tmp_path,
        env={**ENVIRONMENT, **hostile},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"conftest.py", "pytest.ini"}


def test_a_command_and_a_report_whose_names_are_not_utf8(harness: Harness, tmp_path: Path) -> None:
    script, folder = tmp_path / os.fsdecode(b"caf\xe9.py"), tmp_path / os.fsdecode(b"\xe9")
    script.write_text("from harness.reference.__main__ import main; main()")
    command = f"{PYTHON} {shlex.quote(str(script))} {{host}} {{port}}"
    only = ["--only", "CAST-7", "LINE-4", "--report", str(folder)]
    done = harness("conform", "--command", command, *only, "--jobs", "2")
    assert done.stdout.endswith("PASS: 2 passed\n")
    assert json.loads((folder / "results.json").read_text())["target"] == {"command": command}
    assert {path.name for path in folder.iterdir()} == {"results.json", "report.html", "junit.xml"}


def test_a_server_that_starts_only_once_cannot_be_judged(harness: Harness) -> None:
    once = f"""sh -c 'mkdir once && exec {REFERENCE}'"""
    only = ("--only", "CAST-2", "CAST-7")
    done = harness("conform", "--command", once, *only, "--jobs", "2", code=2)
    assert "did not start" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr


def test_on_a_terminal_the_verdicts_are_coloured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    shown = on_a_terminal(monkeypatch).partition(b"CAST-7")[2]
    assert b"PASS" in shown
    assert b"\x1b[3" in shown


def test_no_color_turns_colours_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    shown = on_a_terminal(monkeypatch).partition(b"CAST-7")[2]
    assert b"PASS" in shown
    assert b"\x1b[3" not in shown


def on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> bytes:
    """Return the output on a terminal when CAST-7 is judged."""
    monkeypatch.setenv("TERM", "xterm")
    ours, theirs = pty.openpty()
    with open(ours, "rb", buffering=0) as screen:
        with open(theirs, "w") as terminal, monkeypatch.context() as patch:
            patch.setattr(sys, "stdout", terminal)
            assert main(["conform", "--command", REFERENCE, "--only", "CAST-7"]) == 0
        shown = b""
        with contextlib.suppress(OSError):  # how Linux reports that the other side is closed
            while data := screen.read(65536):
                shown += data
        return shown


def test_a_narrow_terminal_breaks_no_word(capsys: pytest.CaptureFixture[str]) -> None:
    sentence = "A member may lag by a bounded amount, and is disconnected when it lags by more."
    console = Console(width=20, color_system=None)
    show_on(console, [[("LOAD-2 SHOULD", "strong"), (f"  {sentence}", "plain")]])
    shown = capsys.readouterr().out
    assert max(map(len, shown.splitlines())) <= 20
    assert shown.split() == ["LOAD-2", "SHOULD", *sentence.split()]


def test_the_report_says_that_a_server_did_not_start(harness: Harness, tmp_path: Path) -> None:
    command = "sh -c 'echo why; exit 7' {port}"
    done = harness("conform", "--command", command, "--report", "out", code=3)
    assert done.stderr.count("\n") == 1
    record = json.loads((tmp_path / "out/results.json").read_text())
    assert (record["verdict"], record["target"]) == ("invalid", {"command": command})
    assert record["why"] == [
        "the target did not start: it ended (exit status 7); its last line: why"
    ]
    assert {clause["verdict"] for clause in record["clauses"]} == {"unknown"}
    assert "did not start" in (tmp_path / "out/report.html").read_text(encoding="utf-8")


def test_the_timeout_scale_applies_to_the_first_start(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="3"):
        main(["conform", "--command", "sleep 60 {port}", "--timeout-scale", "0.02"])
    assert "it does not listen after 0.2 s" in capfd.readouterr().err


@pytest.mark.sample(1)  # test_interrupts.py tests both signals.
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_leaves_no_server_behind(number: int, tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "harness", "conform", "--command", NOTED, "--jobs", "2"],
        cwd=tmp_path,
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    # The first server only shows that the command works. Each of the two jobs starts a server.
    try:
        servers_are_there(tmp_path, 3)
        process.send_signal(number)
        said, _ = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == 130, said
    assert said.endswith("interrupted\n")
    no_server_is_left(tmp_path)


@pytest.mark.parametrize(
    ("arguments", "status", "complaint"),
    [
        ([], 2, "give either --command or --target"),
        (["--command", "x"], 2, "must contain {port}"),
        (["--command", "x '{port}"], 2, "quotation"),
        (["--command", "x {port}", "--target", "a:1"], 2, "not allowed with"),
        (["--target", "localhost"], 2, "is not HOST:PORT"),
        (["--target", "127.0.0.1:1"], 3, "can't be reached: Connection refused"),
        (["--command", "/nowhere/x {port}"], 3, "No such file"),
        (
            ["--command", "sh -c 'echo why; exit 7' {port}"],
            3,
            "(exit status 7); its last line: why",
        ),
        (["--command", "x {port}", "--only", "CAST-99"], 2, "no clause 'CAST-99'"),
        (["--command", "x {port}", "--profile", "x"], 2, "profile 'x'"),
        (["--command", "x {port}", "--known-failures", "/nowhere"], 2, "can't read '/nowhere'"),
        (["--command", "x {port}", "--timeout-scale", "0"], 2, "above 0"),
        (["--command", "x {port}", "--repeat", "0"], 2, "1 or more"),
        (["--command", "true {port}", "--report", "/dev/null/x"], 2, "--report: can't make"),
        (["--ws", "http://a:1/"], 2, "--ws: 'http://a:1/' is not ws://HOST:PORT/PATH"),
        (["--ws", "ws://a:1/", "--target", "a:1"], 2, "--ws: not allowed with argument --target"),
        (["--ws", "ws://a:1/", "--profile", "tutorial"], 2, "not allowed with argument --profile"),
        (["--ws", "ws://a:1/", "--command", "x {port}"], 2, "write {host}:{port} with --command"),
        (["--ws", "ws://{host}:{port}/"], 2, "write {host}:{port} with --command"),
        (["--ws", "ws://127.0.0.1:1/"], 3, "can't be reached: Connection refused"),
        (["--ws", "ws://a:1/", "--only", "CAST-2"], 2, "CAST-2 can only be judged without --ws"),
        (["--command", "x {port}", "--only", "WS-5"], 2, "WS-5 can only be judged with --ws"),
    ],
)
def test_an_error_is_reported_in_one_line(
    arguments: list[str], status: int, complaint: str, capfd: pytest.CaptureFixture[str]
) -> None:
    try:
        ended: object = main(["conform", *arguments])
    except SystemExit as error:
        ended = error.code
    out, err = capfd.readouterr()
    assert ended == status
    assert complaint in err
    assert err.count("\n") == 1
    assert out == ""


def test_the_clauses_and_their_tests_are_listed(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["conform", "--list", "--only", "cast-2"]) == 0
    assert capfd.readouterr().out == (
        "CAST-2 MUST  A message never reaches its sender.\n"
        "  test_a_sender_does_not_hear_itself  nothing came\n"
    )


def test_a_missing_harness_extra_is_reported_in_one_line(tmp_path: Path) -> None:
    for command in (["conform", "--list"], ["explain", "CAST-2"], ["bench", "--help"]):
        done = subprocess.run(
            [sys.executable, "-S", "-E", "-c", BARE.format(root=str(ROOT)), *command],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        if command[0] == "bench":
            assert done.returncode == 0
        else:
            assert done.returncode == 2
            assert 'pip install "chatroom[harness]"' in done.stderr
            assert done.stderr.count("\n") == 1


BARE = "import sys; sys.path.insert(0, {root!r}); import harness.__main__ as m; sys.exit(m.main())"


def test_jobs_do_not_exceed_the_number_of_tests(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs: list[int] = []

    def run(options: runner.Options, _: object) -> runner.Outcome:
        jobs.append(options.jobs)
        return runner.Outcome(troubles=["nothing was run"])

    monkeypatch.setattr(runner, "run", run)
    for only in (["CAST-7"], ["CAST-7", "LINE-4"]):
        harness("conform", "--command", REFERENCE, "--only", *only, "--jobs", "3", code=2)
    assert jobs == [1, 2]


def test_each_repetition_of_a_test_is_counted(harness: Harness, tmp_path: Path) -> None:
    arguments = ["--command", REFERENCE, "--only", "LINE-4", "--repeat", "3", "--jobs", "1"]
    done = harness("conform", *arguments, "--report", "out")
    assert "Messages: 3 pass\n" in done.stderr
    clauses = json.loads((tmp_path / "out/results.json").read_text())["clauses"]
    tests = [test["test"] for clause in clauses for test in clause["tests"]]
    assert sorted(name.partition("[")[2] for name in tests) == ["1]", "2]", "3]"]
