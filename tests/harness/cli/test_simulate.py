"""The command `simulate`: its output, files and exit status."""

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest

from harness.simulation.history import HISTORY
from harness.simulation.judge import KINDS
from harness.target.processes import ROOT
from tests.harness.commands import Harness, in_time
from tests.harness.simulation.recording import CHATROOM, PYTHON, REFERENCE, python

QUICK = """
about = "six members who talk"
seconds = 1
[[population]]
name = "people"
clients = 6
rate = 10
"""


def simulate(
    harness: Harness, scenario: str, command: str, *options: str, code: int | None = 0
) -> tuple[dict[str, Any], str]:
    """Run `simulate`; return the contents of results.json, and the standard output."""
    Path("mine.toml").write_text(scenario)
    done = harness(
        *("simulate", "mine.toml", "--command", command, "--report", "out", "--seed", "1"),
        *options,
        code=code,
    )
    return json.loads(Path("out/results.json").read_text()), done.stdout


def test_a_correct_server_passes(harness: Harness) -> None:
    results, said = simulate(harness, QUICK, REFERENCE)
    assert results["verdict"] == "pass"
    assert results["clients"] == 6
    assert results["messages"] > 30
    assert results["deliveries"] + results["undecided"] >= results["messages"] * 4
    wrong = ("lost", "duplicated", "misordered", "misprefixed", "echoed", "torn", "disconnected")
    assert [results[name] for name in wrong] == [0] * 7
    assert "pass" in said
    assert "<!doctype html>" in Path("out/report.html").read_text()
    again = harness("check", f"out/{HISTORY}")
    assert "pass" in again.stdout


def test_files_are_written_only_to_the_folder_of_the_report(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:  # pytest needs a folder for temporary files after the test
        patch.setattr(tempfile, "tempdir", "/nonexistent")
        results, _ = simulate(harness, QUICK, REFERENCE)
    assert results["verdict"] == "pass"
    names = sorted(path.name for path in Path("out").iterdir())
    assert names == [HISTORY, "report.html", "results.json"]


def test_an_address_and_port_in_a_prefix_do_not_count_as_a_message(harness: Harness) -> None:
    """Latencies would be negative if the `0.2:` of `127.0.0.2:4000` counted as a message."""
    Path("mine.toml").write_text("welcome = 'Connected as .*'\nprefix = '[0-9.]+:[0-9]+: '\n")
    server = f"{PYTHON} {ROOT}/tests/harness/dialects/ip_port.py {{host}} {{port}}"
    Path("quick.toml").write_text(QUICK)
    harness(
        *("simulate", "quick.toml", "--profile", "mine.toml", "--command", server),
        *("--report", "out", "--seed", "1"),
        code=4,
    )
    results = json.loads(Path("out/results.json").read_text())
    latencies = results["latency_ms"]["corrected"]["first"]
    assert 0 < latencies["p50"] <= latencies["max"] < 5000


#: A server that asks for a name and a password, ends lines with CR LF in both directions, shows
#: colours, and returns a member's own messages.
POLITE = r"""
lock, members = threading.Lock(), {}
def serve(connection):
    lines = connection.makefile('rb', newline=None)
    def ask(question):
        connection.sendall(question)
        line = lines.readline()
        assert line.endswith(b'\r\n') or not line, line
        return line.strip()
    name = ask(b'Who are you? ')
    if not name or ask(b'Password: ') != b'secret':
        return connection.close()
    with lock:
        assert name not in members.values()
        connection.sendall(b'Welcome, ' + name + b'!\r\n')
        members[connection] = name
    for line in lines:
        if not line.endswith(b'\r\n'):
            continue
        with lock:
            for member in members:
                shown = b'You' if member is connection else name
                try:
                    member.sendall(b'\x1b[1m' + shown + b'\x1b[0m: ' + line)
                except OSError:
                    pass
    with lock:
        del members[connection]
    connection.close()
"""

POLITE_DIALECT = r"""
welcome = 'Welcome, \w+!\n'
prefix = '(?P<name>\w+): '
echo = 'You: '
colours = true
input_line_end = "CR LF"
output_line_end = "CR LF"
[[login]]
expects = 'Who are you\? '
sends = "{name}"
[[login]]
expects = 'Password: '
sends = "secret"
"""

WITH_VISITORS = (
    QUICK.replace("seconds = 1", "seconds = 2")
    + """
[[population]]
name = "visitors"
clients = 4
rate = 5
stays = [0.1, 0.3]
returns = true
away = 0.1
"""
)


@pytest.mark.parametrize(
    ("right", "wrong", "what"),
    [
        ("", "", set()),
        ("b'You'", "name", {"misprefixed"}),
        ("for member in members:", "for member in [*members][1:]:", {"lost", "echoed"}),
    ],
    ids=["right", "echoes with the wrong prefix", "forgets the first member"],
)
def test_a_server_of_another_dialect_is_judged(
    right: str, wrong: str, what: set[str], harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.simulation.run.run.PATIENCE", 3.0)
    Path("polite.toml").write_text(POLITE_DIALECT)
    server = python(f"import threading\n{POLITE.replace(right, wrong)}")
    code = 1 if what else 4
    results, said = simulate(harness, WITH_VISITORS, server, "--profile", "polite.toml", code=code)
    assert {kind for kind in KINDS if results[kind]} == what
    assert said.startswith("fail: " if what else "pass in the dialect\n")
    assert "\ndialect: a login; prefixes with names instead of addresses; own messages" in said
    assert "in the dialect of the profile: a login; " in Path("out/report.html").read_text()
    assert results["deliveries"] > 100
    assert results["latency_ms"]["corrected"]["last"]["p50"] > 0


LONGER = QUICK.replace("seconds = 1", "seconds = 3")
ONE_TALKER = """
about = "one member who talks much"
seconds = 4
[[population]]
name = "one"
clients = 1
rate = 300
timing = "evenly"
size = 10
[[population]]
name = "listeners"
clients = 10
"""


@pytest.mark.sample(2)  # test_judge.py tests every kind of violation.
@pytest.mark.parametrize(
    ("broken", "what", "scenario"),
    [
        ("drops-1-in-1000", "lost", ONE_TALKER),
        ("doubles-1-in-500", "duplicated", ONE_TALKER),
        ("swaps-neighbours", "misordered", ONE_TALKER),
        ("always-localhost", "misprefixed", QUICK),
        ("echoes", "echoed", QUICK),
        ("lowercases", "torn", QUICK),
        ("welcome-late", "unwelcomed", LONGER),
    ],
    ids=lambda value: value if "\n" not in value else "",
)
def test_a_broken_server_fails_with_one_kind_of_violation(
    broken: str, what: str, scenario: str, harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    # At the end, the harness waits PATIENCE seconds for the lines that the server has damaged.
    monkeypatch.setattr("harness.simulation.run.run.PATIENCE", 3.0)
    command = f"{REFERENCE} --broken {broken} --rate 1000000"
    results, said = simulate(harness, scenario, command, code=1)
    assert results["verdict"] == "fail"
    wrong = {"lost", "duplicated", "misordered", "misprefixed", "echoed", "torn", "unwelcomed"}
    assert {name for name in wrong if results[name]} == {what}
    assert what in said


TWO_SECONDS_STOPPED = """
about = "five members who talk much, and a server that is stopped for two of ten seconds"
seconds = 10
[[population]]
name = "five"
clients = 5
rate = 20
timing = "evenly"
[[fault]]
kind = "stop"
at = 0.4
seconds = 2
"""


@pytest.mark.thorough  # test_figures.py proves the same with a history written by hand.
def test_a_stop_increases_corrected_latencies_more_than_raw_latencies(
    harness: Harness,
) -> None:
    results, _ = simulate(harness, TWO_SECONDS_STOPPED, CHATROOM)
    assert results["verdict"] == "pass"
    corrected, raw = (results["latency_ms"][name]["last"] for name in ("corrected", "raw"))
    assert 1900 < corrected["max"] < 4000
    assert 1700 < corrected["p99"] <= corrected["max"]
    assert raw["p99"] < 1000
    assert raw["max"] > 1500, "each sender had a message in transit when the server stopped"


def test_a_target_s_death_is_reported_and_the_history_is_kept(
    harness: Harness, tmp_path: Path
) -> None:
    Path("mine.toml").write_text(QUICK.replace("seconds = 1", "seconds = 20"))
    dies = python(
        "def serve(connection):\n"
        r"    connection.sendall(b'Welcome to socket practice\n')"
        "\n"
        "    if connection.recv(4096): os._exit(7)\n"
    )
    done = harness("simulate", "mine.toml", "--command", dies, code=2)
    assert "the target ended (exit status 7)" in done.stdout
    (kept,) = tmp_path.glob("simulation-*")
    assert str(kept) in done.stderr
    again = harness("check", str(kept / HISTORY), code=2)
    assert "the target ended (exit status 7)" in again.stdout


WORKERS = """
about = "a worker is killed, and the room is stopped"
seconds = 2
reach = ["kill-worker while delivering"]
[[population]]
name = "four"
clients = 4
rate = 10
pieces = 4
pause = 0.02
[[fault]]
kind = "kill-worker"
at = 0.4
[[fault]]
kind = "hangup"
at = 0.6
[[fault]]
kind = "stop"
at = 0.8
seconds = 0.1
"""


def test_faults_that_only_some_servers_can_handle_are_left_out_by_default(harness: Harness) -> None:
    results, said = simulate(harness, WORKERS, CHATROOM)
    assert results["verdict"] == "pass"
    assert results["faults"] == {"stop": 1}
    assert results["left_out"].keys() == {"kill-worker", "hangup"}
    assert "left out: hangup: only with --worker-faults" in said
    assert results["required"] == {}
    results, said = in_time(  # a busy machine may miss the moment
        lambda: simulate(harness, WORKERS, CHATROOM, "--worker-faults", code=None),
        lambda found: found[0]["verdict"] in ("invalid", "undecided"),
    )
    assert results["verdict"] == "pass"
    assert results["faults"] == {"kill-worker": 1, "hangup": 1, "stop": 1}
    assert results["left_out"] == {}
    assert results["reached"]["kill-worker"]["times"] == 1
    assert results["required"] == {"kill-worker while delivering": 1}


def test_a_run_that_never_reaches_a_required_moment_is_undecided(harness: Harness) -> None:
    never = WORKERS.replace("while delivering", "while lagging").replace("hangup", "stop-worker")
    results, said = in_time(
        lambda: simulate(harness, never, REFERENCE, "--worker-faults", code=2),
        lambda found: found[0]["verdict"] == "invalid",
    )
    assert results["verdict"] == "undecided"
    assert said.startswith("undecided: never reached: kill-worker while lagging")
    assert "kill-worker × 0" in said
    assert "(1 found no process)" in said


def test_files_of_a_passed_run_are_kept_only_on_request(harness: Harness, tmp_path: Path) -> None:
    Path("mine.toml").write_text(QUICK)
    harness("simulate", "mine.toml", "--command", REFERENCE)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.toml"]


@pytest.mark.parametrize(
    ("arguments", "code", "complaint"),
    [
        (("nope", "--command", REFERENCE), 2, "'nope' is neither a file nor one of chaos,"),
        (("crowd",), 2, "give either --command or --target"),
        (("crowd", "--command", "true"), 2, "the command must contain {port}"),
        (("crowd", "--command", "true {port}"), 3, "the target did not start: it ended"),
        (("crowd", "--target", "127.0.0.1:1"), 3, "can't be reached: Connection refused"),
        (("crowd", "--duration", "0"), 2, "must be a number of seconds"),
        (("chaos", "--clients", "3", "--command", REFERENCE), 2, "needs 11 clients or more"),
        (("crowd", "--profile", "nope", "--command", REFERENCE), 2, "nope"),
        (("crowd", "--report", "/proc/x", "--command", REFERENCE), 2, "can't make '/proc/x'"),
    ],
)
def test_an_error_is_reported_in_one_line(
    arguments: tuple[str, ...], code: int, complaint: str, harness: Harness, tmp_path: Path
) -> None:
    done = harness("simulate", *arguments, code=code)
    assert complaint in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert [*tmp_path.iterdir()] == []


def test_scenarios_are_listed_and_shown(harness: Harness) -> None:
    listed = harness("scenarios").stdout.splitlines()
    assert [line.split()[0] for line in listed] == sorted(line.split()[0] for line in listed)
    assert len(listed) == 9
    shown = harness("scenarios", "classroom").stdout
    assert shown.startswith("# A class in one room")
    assert harness("scenarios", "nope", code=2).stderr.count("\n") == 1
