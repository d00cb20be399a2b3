"""Runs of scenarios: driver processes whose clients talk to a server, and the recorded history."""

import contextlib
import pickle
import signal
import socket
import subprocess
import sys
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path

import psutil
import pytest

from harness.errors import CannotJudge
from harness.profile import parse
from harness.simulation.history import COMPLETE, as_bytes, line_of
from harness.simulation.judge import judge
from harness.simulation.judge.figures import figures
from harness.simulation.run import drivers
from harness.simulation.run.progress import Status
from harness.simulation.run.run import with_sessions
from harness.simulation.scenario.vocabulary import harmless
from harness.target.processes import ROOT
from harness.target.target import Command
from tests.harness.simulation.recording import CHATROOM, PYTHON, events_of, heard, python, record
from tests.integration.waiting import until

TWO = """
seconds = 0.5
[[population]]
name = "two"
clients = 2
rate = 10
"""


@pytest.mark.parametrize("processes", [1, 3])
def test_all_messages_are_recorded_and_heard(processes: int, tmp_path: Path) -> None:
    found = record(
        tmp_path,
        """
        [[phase]]
        name = "all come"
        seconds = 0.5
        rate = 0
        [[phase]]
        name = "all talk"
        seconds = 1
        [[population]]
        name = "people"
        clients = 7
        rate = 5
        alphabets = ["ascii", "cjk", "emoji", "rtl", "hostile"]
        pieces = [1, 3]
        """,
        processes=processes,
    )
    assert found.end == COMPLETE
    said = {event["says"]: event for event in events_of(found, "says")}
    assert len(said) > 20
    assert {event["sent"] for event in events_of(found, "sent")} == said.keys()
    for who in range(7):
        others = {name for name, event in said.items() if event["who"] != who}
        assert {*heard(found, who)} == others, (
            "each message is recorded by its name, so it arrived unchanged"
        )
        assert len(heard(found, who)) == len(others)
    assert all(before["t"] <= after["t"] for before, after in pairwise(found.events))
    for who in range(7):
        (connects, connected, welcomed) = [
            event["what"] for event in events_of(found, "what") if event["who"] == who
        ]
        assert (connects, connected, welcomed) == ("connects", "connected", "welcomed")
    assert any(
        harmless(as_bytes(event["text"])) != as_bytes(event["text"]) for event in said.values()
    )


#: A server that begins to serve 0.7 seconds after its first client has connected.
SLOW_TO_START = """
import threading, time
members, lock = [], threading.Lock()
def serve(connection):
    with lock:
        if not members:
            time.sleep(0.7)
        members.append(connection)
        connection.sendall(b'Welcome to socket practice\\n')
    address = connection.getpeername()[0].encode()
    for line in connection.makefile('rb'):
        with lock:
            for member in members:
                if member is not connection:
                    try:
                        member.sendall(b'<%s>%s' % (address, line))
                    except OSError:
                        pass
"""


@pytest.mark.parametrize("welcome", ["welcome = 'Welcome to socket practice'", ""])
def test_a_run_begins_when_a_first_client_can_talk(welcome: str, tmp_path: Path) -> None:
    """If it began earlier, the start-up time of the server would count as latency."""
    dialect = parse(welcome, "mine")
    found = record(tmp_path, TWO, python(SLOW_TO_START), dialect=dialect)
    assert 0.6 < found.header["startup"] < 5
    latencies = [message.first - message.begun for message in figures(found).heard]
    assert latencies
    assert max(latencies) < 0.5


def test_unexpected_lines_are_recorded_as_they_arrived(tmp_path: Path) -> None:
    found = record(
        tmp_path,
        TWO,
        python(
            "def serve(connection):\n"
            "    connection.sendall(b'Welcome to socket practice')\n"
            "    connection.recv(4096)\n"
            r"    connection.sendall(b'\n\xff what\n<127.0.0.2>msg0.0:other words\nthe r')"
            "\n"
            r"    connection.sendall(b'est\nhalf')"
            "\n"
            "    connection.close()\n"
        ),
    )
    for who in range(2):
        assert heard(found, who) == [
            {"line": "\udcff what"},
            {"line": "<127.0.0.2>msg0.0:other words"},
            {"line": "the rest"},
        ]
    ended = events_of(found, "what", "ended")
    assert [event.get("rest") for event in ended] == ["half", "half"]
    assert {event["who"] for event in events_of(found, "what", "welcomed")} == {0, 1}


def test_welcome_1_bytes_before_the_welcome_are_recorded(tmp_path: Path) -> None:
    found = record(
        tmp_path,
        TWO,
        python(
            "def serve(connection):\n"
            r"    connection.sendall(b'<127.0.0.9>hi\nWelcome to socket practice\n')"
            "\n"
            "    while connection.recv(4096): pass\n"
        ),
    )
    assert [event["rest"] for event in events_of(found, "what", "unwelcomed")] == [
        "<127.0.0.9>hi\nWelcome to socket practice\n"
    ] * 2
    assert events_of(found, "what", "welcomed") == []


def test_a_run_begins_even_if_no_client_is_welcomed(tmp_path: Path) -> None:
    found = record(tmp_path, TWO, python("def serve(connection):\n    connection.recv(1)\n"))
    assert found.header["startup"] is None
    assert [event["who"] for event in events_of(found, "what", "connected")] == [0, 1]


def test_a_refused_client_says_nothing(tmp_path: Path) -> None:
    found = record(
        tmp_path,
        TWO + '[[population]]\nname = "late"\nclients = 1\narrives = 0.9\nrate = 10\n',
        python("def serve(connection):\n    server.shutdown(2)\n    connection.recv(1)\n"),
    )
    refused = events_of(found, "what", "refused")
    assert 2 in [event["who"] for event in refused]
    assert 2 not in [event["who"] for event in events_of(found, "says")]


def test_clients_leave_in_the_given_way(tmp_path: Path) -> None:
    found = record(
        tmp_path,
        "\n".join(
            ["seconds = 1"]
            + [
                f'[[population]]\nname = "{how}"\nclients = 1\nrate = 9\n'
                f'stays = 0.3\nleaves = "{how}"'
                for how in ("close", "reset", "half-close")
            ]
            + ['[[population]]\nname = "stays"\nclients = 2\nrate = 3']
        ),
    )
    leaves = {event["who"]: event["how"] for event in events_of(found, "what", "leaves")}
    assert sorted(leaves.values()) == ["close", "half-close", "reset"]
    ended = events_of(found, "what", "ended")
    assert [(leaves[event["who"]], event["how"]) for event in ended] == [("half-close", "closed")]


def test_a_run_ends_when_all_clients_have_heard_the_final_messages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run does not wait for PATIENCE seconds."""
    monkeypatch.setattr("harness.simulation.run.run.PATIENCE", 10_000.0)
    found = record(tmp_path, TWO)
    last = [event["says"] for event in events_of(found, "final")]
    assert len(last) == 2
    assert all({*last} & {*heard(found, who)} for who in range(2))


def test_a_link_applies_its_fault_to_its_clients(tmp_path: Path) -> None:
    found = record(
        tmp_path,
        TWO
        + '[[population]]\nname = "cut"\nclients = 1\nrate = 10\n'
        + '[population.link]\nfault = "reset"\nafter = 0.2\n',
    )
    (whose,) = (event["who"] for event in events_of(found, "population", "cut"))
    (begins,) = events_of(found, "fault", "reset")
    assert (begins["who"], begins["what"]) == (whose, "begins")
    (ended,) = events_of(found, "what", "ended")
    assert ended["who"] == whose
    (address,) = (event["address"] for event in events_of(found, "population", "cut"))
    said = [event["says"] for event in events_of(found, "says") if event["who"] == whose]
    assert said
    assert {*said} & {*heard(found, (whose + 1) % 3)}, f"a message from {address} arrived"


# --- faults of the target ------------------------------------------------------------------------


def test_a_link_s_fault_belongs_to_the_session_at_its_port_and_time(tmp_path: Path) -> None:
    part = tmp_path / "0000"
    with part.open("w") as file:
        for who, t, port in ((1, 1.0, 5000), (2, 1.0, 5001), (3, 2.0, 5000)):
            connects = {"t": t, "who": who, "what": "connects", "address": "127.0.0.2"}
            file.write(line_of(connects))
            file.write(line_of({"t": t + 0.1, "who": who, "what": "connected", "port": port}))
    faults = [
        {"t": t, "address": "127.0.0.2", "port": port, "fault": "slow", "what": "begins"}
        for t, port in ((2.05, 5000), (1.05, 5000), (9.0, 5001), (0.5, 5000), (1.0, 5002))
    ]
    found = [(event["t"], event["who"]) for event in with_sessions(faults, [part])]
    assert found == [(1.05, 1), (2.05, 3), (9.0, 2)]


def both_workers_serve(target: Command) -> None:
    """Connect clients until each worker serves one. A fault can only hit workers with clients."""
    with ExitStack() as people:

        def come() -> bool:
            people.enter_context(socket.create_connection(target.address, 20))
            return len(target.roles().workers) == 2

        until(come, "each worker serves a client")


def test_load_4_workers_are_killed_stopped_and_replaced(tmp_path: Path) -> None:
    found = record(
        tmp_path,
        """
        [[phase]]
        name = "all come"
        seconds = 0.5
        rate = 0
        [[phase]]
        name = "all talk"
        seconds = 3
        [[population]]
        name = "people"
        clients = 4
        rate = 3
        [[fault]]
        kind = "kill-worker"
        at = 0.2
        [[fault]]
        kind = "stop-worker"
        at = 0.4
        seconds = 0.3
        [[fault]]
        kind = "hangup"
        at = 0.6
        [[fault]]
        kind = "stop"
        at = 0.8
        seconds = 0.2
        """,
        CHATROOM,
        scale=1.0,
        ready=both_workers_serve,
    )
    assert found.end == COMPLETE
    faults = [
        (event["fault"], event["what"], len(event["processes"]))
        for event in events_of(found, "fault")
    ]
    by_kind = {
        kind: [fault[1:] for fault in faults if fault[0] == kind]
        for kind in ("kill-worker", "stop-worker", "hangup", "stop")
    }
    stopped = by_kind["stop"][0][1]
    assert by_kind == {
        "kill-worker": [("begins", 1)],
        "stop-worker": [("begins", 1), ("ends", 1)],
        "hangup": [("begins", 1)],
        "stop": [("begins", stopped), ("ends", stopped)],
    }
    assert stopped >= 3, (
        "main process, registry and a worker; a new worker may not have started yet"
    )
    (killed,) = events_of(found, "fault", "kill-worker")[0]["processes"]
    assert not psutil.pid_exists(killed)
    assert events_of(found, "what", "ended") == [], "the server disconnects no member"
    said = {event["says"] for event in events_of(found, "says")}
    everyone = {name for who in range(4) for name in heard(found, who)}
    assert everyone == said


def test_a_target_can_be_restarted(tmp_path: Path) -> None:
    found = record(
        tmp_path,
        """
        seconds = 4
        [[population]]
        name = "people"
        clients = 4
        stays = [0.2, 0.5]
        returns = true
        away = 0.1
        [[fault]]
        kind = "restart"
        at = 0.1
        """,
        scale=1.0,
    )
    begins, ends = events_of(found, "fault", "restart")
    assert (begins["what"], ends["what"]) == ("begins", "ends")
    assert [event for event in events_of(found, "what", "welcomed") if event["t"] > ends["t"]]


@pytest.mark.parametrize("job", [b"", pickle.dumps("a job that was cut off")[:-5]])
def test_a_driver_without_a_job_ends_silently(job: bytes) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "harness.simulation.run.driver"],
        cwd=ROOT,
        input=job,
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (1, b"", b"")


def test_a_run_starts_when_its_drivers_are_ready(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    slow = tmp_path / "slow"
    slow.write_text(f'#!/bin/sh\nsleep 2\nexec {PYTHON} "$@"\n')
    slow.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(slow))
    found = record(tmp_path, TWO, processes=2)
    assert found.end == COMPLETE
    assert {event["who"] for event in events_of(found, "what", "connects") if event["t"] < 1} == {
        0,
        1,
    }


@pytest.mark.parametrize(
    ("does", "complaint"),
    [
        ("echo oh", "a driver printed 'oh' instead of 'ready'"),
        ("exec true", "a driver failed with exit status 0"),
        ("exec sleep 60", "a driver was not ready within 0.1 s"),
    ],
)
def test_a_driver_that_does_not_become_ready_raises_cannot_judge(
    does: str, complaint: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    odd = tmp_path / "odd"
    odd.write_text(f"#!/bin/sh\n{does}\nexec sleep 60\n")
    odd.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(odd))
    monkeypatch.setattr(drivers, "END_WITHIN", 0.5)
    if "sleep" in does:
        monkeypatch.setattr(drivers, "READY_WITHIN", 0.5)  # `scale` reduces it to 0.1 s
    with pytest.raises(CannotJudge, match=complaint):
        record(tmp_path, TWO)


def test_an_interrupted_driver_does_not_count_as_finished(tmp_path: Path) -> None:
    def break_off(status: Status) -> None:
        if status.said:
            for driver in psutil.Process().children():
                with contextlib.suppress(psutil.NoSuchProcess):  # the process may have ended
                    if "harness.simulation.run.driver" in driver.cmdline():
                        driver.send_signal(signal.SIGINT)

    with pytest.raises(CannotJudge, match="a driver failed with exit status"):
        record(tmp_path, TWO.replace("0.5", "20"), on_status=break_off)


def test_a_driver_that_cannot_be_started_raises_cannot_judge(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with pytest.raises(CannotJudge, match="a driver can't be started: No such file"):
        record(tmp_path, TWO)


def test_the_costs_of_the_target_are_recorded(tmp_path: Path) -> None:
    costs = [event["costs"] for event in events_of(record(tmp_path, TWO), "costs")]
    assert costs
    assert all(cost["memory"] > 1 << 20 and cost["descriptors"] > 3 for cost in costs)


def test_a_target_s_death_ends_the_run_and_keeps_the_record(tmp_path: Path) -> None:
    found = record(
        tmp_path,
        TWO.replace("0.5", "20"),
        python(
            "def serve(connection):\n"
            r"    connection.sendall(b'Welcome to socket practice\n')"
            "\n"
            "    if not connection.recv(4096): return\n"
            "    print('alas', flush=True)\n"
            "    os._exit(7)\n"
        ),
    )
    assert found.end == "the target ended (exit status 7); its last line: alas"
    assert events_of(found, "says")


def test_a_target_that_ends_when_its_first_client_leaves_is_not_run(tmp_path: Path) -> None:
    found = record(
        tmp_path,
        TWO,
        python(
            "def serve(connection):\n"
            r"    connection.sendall(b'Welcome to socket practice\n')"
            "\n"
            "    connection.recv(4096)\n"
            "    os._exit(7)\n"
        ),
    )
    assert found.end.startswith("the target ended (exit status 7)")
    assert judge(found).counts == {}
