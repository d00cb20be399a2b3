"""Trials with real servers: a correct server is timed, a wrong server is not."""

import dataclasses
import re
import shlex
import socket
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from harness.bench import clients, trial
from harness.bench.clients import Clients
from harness.bench.dialects import CHAT
from harness.bench.load import STREAM_LINES
from harness.bench.payload import ArrivalError
from harness.bench.servers import RECIPES, Recipe, custom, ports_of
from harness.bench.trial import (
    FAILED,
    MEASURED,
    NOT_INSTALLED,
    NOT_STARTED,
    LoadError,
    Plan,
    Result,
    Workload,
    run,
)
from harness.target.processes import Server, free_port
from tests.harness.bench.alone import alone
from tests.harness.commands import in_time
from tests.programs import program

TINY = Path(__file__).with_name("tiny.py")
PYTHON = sys.executable

# Numbers of the messages in a trial with CLIENTS and QUICK: 1-2 show that all clients have joined,
# 3-6 are the first check. In a crowd, 7-10 are a warm-up, 11-22 are timed, and 23-26 are the last
# check. In a solo, 7 is a warm-up, and 8-10 are timed.
CLIENTS = 4
QUICK = Plan([], [], seconds=0, rounds=3, patience=10, limit=20)
IMPATIENT = dataclasses.replace(QUICK, patience=2)
TIMED = 11
LAST_CHECK = 23


def tiny(*arguments: object) -> Recipe:
    return custom("tiny", shlex.join([PYTHON, str(TINY), *map(str, arguments)]))


def silent() -> Recipe:
    """Return a recipe for a server that does not announce its port."""
    code = TINY.read_text().replace('("127.0.0.1", 0)', '("127.0.0.1", int(sys.argv[3]))')
    assert "argv[3]" in code
    command = f"{PYTHON} -c {shlex.quote(code)} none 1 {{port}}"
    return Recipe("tiny", "chat", command, ready=None)


def caught(recipe: Recipe, kind: str = "crowd", count: int = CLIENTS, plan: Plan = QUICK) -> Result:
    """Call `play` for a server that sends surplus lines late. Repeat this until the trial fails.

    On a slow machine, a late line can arrive after the end of the trial.
    """
    return in_time(lambda: play(recipe, kind, count, plan), lambda result: result.status != FAILED)


def play(recipe: Recipe, kind: str = "crowd", count: int = CLIENTS, plan: Plan = QUICK) -> Result:
    return run(plan, Workload(kind, count), 0, recipe)


@pytest.fixture(autouse=True)
def _leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


@pytest.mark.parametrize(
    ("kind", "deliveries"),
    [("crowd", 3 * 4 * 3), ("solo", 3 * 3), ("stream", 3 * STREAM_LINES * 3)],
)
def test_a_correct_server_is_timed(kind: str, deliveries: int, tmp_path: Path) -> None:
    result = play(tiny(), kind)
    assert (result.status, result.reason) == (MEASURED, "")
    figures = result.figures
    assert figures["deliveries"] == deliveries
    assert figures["rounds"] == 3
    assert figures["rate"] == pytest.approx(deliveries / figures["seconds"])
    assert 0 < figures["busy"] < 1.5
    assert 0 < figures["cpu_per_message"] < 0.1
    parts = [value for name, value in figures.items() if name.startswith("cpu_per_message of py")]
    assert sum(parts) == pytest.approx(figures["cpu_per_message"])
    assert not list(tmp_path.iterdir())


def test_the_timed_part_lasts_the_given_number_of_seconds() -> None:
    figures = play(tiny(), plan=dataclasses.replace(QUICK, seconds=0.2)).figures
    assert figures["rounds"] > 3
    assert 0.2 <= figures["seconds"] < 10
    assert figures["deliveries"] == figures["rounds"] * 12


@pytest.mark.sample(7)
@pytest.mark.parametrize(
    ("fault", "complaint"),
    [
        ("close at once", "was disconnected"),
        ("mute", "received nothing for 2 s, waiting for the welcome"),
        # The fault begins with the first line.
        ("lose", "such as client 3, received nothing for 2 s, waiting for the line of client 0"),
        ("double 1", "client . has (1 line|2 lines) too many"),
        ("die 1", r"was disconnected.*; the server ended \(exit status 7\); .*: out of luck"),
        # The fault is in the first check.
        (
            "lose 3",
            "clients, such as client 2, received nothing for 2 s, waiting for every client's line",
        ),
        ("double 3", "too many"),
        ("echo 3", "too many"),
        ("garble 3", "client 2 lacks 1 line.* and has 1 line too many"),
        ("noise 3", r"client 2 received 'hm\? ' between the lines"),
        ("misname 3", "client 2 lacks 1 line"),
        # The fault is in the timed part.
        (f"lose {TIMED}", "received nothing for 2 s: client 2, for example, still lacks 75 bytes"),
        (f"double {TIMED}", "client [23] received [0-9]+ bytes too many"),
        (f"echo {TIMED}", "client [0-9] received [0-9]+ bytes too many"),
        (f"close {TIMED}", "client [0-9] was disconnected"),
        (f"reset {TIMED}", "client [0-9] was disconnected: .*reset"),
        (f"garble {TIMED}", "client 2 lacks 1 line.* and has 1 line too many"),
        # The fault is in the last check.
        (f"lose {LAST_CHECK}", "waiting for every client's line"),
        (f"garble {LAST_CHECK}", "client 2 lacks"),
        ("late 26", "client 2 (received 75 bytes|has 1 line) too many"),
    ],
)
def test_a_wrong_server_is_not_timed(fault: str, complaint: str, tmp_path: Path) -> None:
    name, _, start = fault.rpartition(" ") if fault[-1].isdigit() else (fault, "", "1")
    # Only a line that never arrives makes the trial wait for as long as `patience`.
    plan = IMPATIENT if name in ("lose", "mute") else QUICK
    result = (caught if name == "late" else play)(tiny(name, start), plan=plan)
    assert result.status == FAILED
    assert not result.figures
    assert re.search(complaint, result.reason), result.reason
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("fault", ["lose", "double", "echo", "garble"])
def test_a_wrong_server_is_not_timed_with_one_speaker(fault: str) -> None:
    result = play(tiny(fault, 8), "solo", plan=IMPATIENT)
    assert result.status == FAILED
    assert not result.figures


@pytest.mark.parametrize(
    ("fault", "complaint"),
    [
        ("lose", "received nothing for 2 s: client 3, for example, still lacks [0-9]+ bytes"),
        ("echo", "client 0 received [0-9]+ bytes too many"),
        ("garble", "client 3 has not received each line exactly once, in order"),
        ("reset", "was disconnected"),
    ],
)
def test_a_wrong_server_is_not_timed_with_a_stream(fault: str, complaint: str) -> None:
    """The fault begins in the timed part, and affects the last of the four clients."""
    result = play(tiny(fault, STREAM_LINES + 10), "stream", plan=IMPATIENT)
    assert (result.status, result.figures) == (FAILED, {})
    assert re.search(complaint, result.reason), result.reason


def test_latencies_are_measured_at_fractions_of_the_capacity() -> None:
    figures = play(tiny(), "latency", plan=dataclasses.replace(QUICK, seconds=0.3)).figures
    for part in ("0.1", "0.5"):
        p50, p99, most = (figures[f"{name} at {part}"] for name in ("p50", "p99", "max"))
        assert 0 < p50 <= p99 <= most < 5000
    assert figures["rate"] > 0


def test_latencies_are_measured_at_a_given_pace() -> None:
    figures = play(tiny(), "latency", plan=dataclasses.replace(QUICK, pace=50)).figures
    assert {name for name in figures if name.startswith("p99 at")} == {"p99 at 50/s"}


@pytest.mark.parametrize(
    ("fault", "complaint"),
    [
        ("double", "too many bytes"),
        ("lose", "received nothing for"),
        ("reset", "was disconnected"),
        # The complaint depends on the order in which the lines arrive.
        ("echo", "too many bytes|has not received each message exactly once"),
        ("garble", "received '<127.0.0.1>.*, which no client sent"),
    ],
)
def test_a_wrong_server_has_no_latency_figures(fault: str, complaint: str) -> None:
    """The fault begins with message 12. The schedule begins with message 11."""
    result = play(tiny(fault, 12), "latency", plan=dataclasses.replace(IMPATIENT, seconds=0))
    assert (result.status, result.figures) == (FAILED, {})
    assert re.search(complaint, result.reason)


@pytest.mark.parametrize("name", ["plain", "floor"])
@pytest.mark.parametrize("kind", ["crowd", "solo", "latency", "idle"])
def test_the_harness_s_own_servers_are_timed(name: str, kind: str) -> None:
    result = play(RECIPES[name], kind, 9)
    assert (result.status, result.reason) == (MEASURED, "")


@pytest.mark.parametrize("recipe", [tiny(), silent()], ids=["announced", "silent"])
def test_a_start_takes_until_the_server_listens(recipe: Recipe) -> None:
    result = play(recipe, "start", 0)
    assert (result.workload, result.status, result.reason) == ("start", MEASURED, "")
    assert 0.01 < result.figures["start"] < 10, "a Python process needs more than 0.01 s to start"


@pytest.mark.parametrize(
    ("code", "complaint"),
    [
        ("import signal; signal.pause()", "did not listen at its port within 0.5 s"),
        ("raise SystemExit('out of luck')", "ended (exit status 1); its last line: out of luck"),
    ],
)
def test_a_start_without_a_listener_has_no_figure(
    code: str, complaint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # If the server ends, the trial fails at once, in spite of the long limit.
    monkeypatch.setattr(trial, "START_LIMIT", 0.5 if "pause" in code else 600)
    command = f"{PYTHON} -c {shlex.quote(code)} {{port}}"
    result = play(Recipe("mute", "chat", command, ready=None), "start", 0)
    assert (result.status, result.reason) == (NOT_STARTED, complaint)
    assert not result.figures


def test_memory_and_join_times_of_idle_clients_are_measured() -> None:
    result = play(tiny(), "idle", 40)
    assert (result.status, result.reason) == (MEASURED, "")
    assert result.figures["block"] == 20
    assert result.figures["first_rate"] > 0
    assert result.figures["last_rate"] > 0
    assert abs(result.figures["memory"]) < 1 << 20


@pytest.mark.parametrize("fault", ["mute", "lose 3", "late 4"])
def test_idle_clients_that_are_not_members_give_no_figures(fault: str) -> None:
    attempt = caught if "late" in fault else play
    result = attempt(tiny(*fault.split()), "idle", 40, plan=IMPATIENT)
    assert result.status == FAILED
    assert not result.figures


def test_an_unknown_memory_is_left_out_of_the_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "weight", lambda _pid: None)
    result = play(tiny(), "idle", 4)
    assert result.status == MEASURED
    assert "memory" not in result.figures


def test_a_server_that_is_given_its_port_need_not_announce_it() -> None:
    result = play(silent())
    assert (result.status, result.reason) == (MEASURED, "")


@pytest.mark.parametrize(
    ("command", "status", "complaint"),
    [
        ("no-such-program", NOT_INSTALLED, "no program no-such-program"),
        (f"{PYTHON} -c 'raise SystemExit(3)'", NOT_STARTED, "ended (exit status 3)"),
    ],
)
def test_a_server_that_cannot_be_started_is_reported(
    command: str, status: str, complaint: str
) -> None:
    result = play(custom("mine", command))
    assert (result.status, result.reason) == (status, complaint)
    assert not result.figures


def test_a_program_that_cannot_be_run_is_reported(tmp_path: Path) -> None:
    broken = tmp_path / "server"
    broken.write_text("#!/no/such/interpreter\n")
    broken.chmod(0o755)
    assert play(custom("mine", str(broken))).status == NOT_STARTED


def test_a_run_beyond_its_time_limit_fails() -> None:
    result = play(tiny("mute"), plan=dataclasses.replace(QUICK, patience=20, limit=0.5))
    assert (result.status, result.reason) == (FAILED, "took longer than 0.5 s")


def test_a_failed_load_is_an_error_and_not_a_result(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(LoadError, match="failed: KeyError: 'no such dialect'"):
        play(dataclasses.replace(tiny(), dialect="no such dialect"))
    recipe = tiny()
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(LoadError, match="failed: without a message"):
        play(recipe)


def test_servers_take_turns() -> None:
    first, second = custom("a", "a"), custom("b", "b")
    plan = Plan([Workload("crowd", 5), Workload("solo", 5)], [first, second], repeat=2)
    order = [f"{workload.kind}{repetition}{r.name}" for workload, repetition, r in plan.trials()]
    assert order == [
        *("crowd0a", "crowd0b", "crowd1a", "crowd1b"),
        *("solo0a", "solo0b", "solo1a", "solo1b"),
    ]
    told: list[Result] = []
    plan = Plan([Workload("crowd", 5)], [custom("a", "no-such-program")], repeat=2)
    assert trial.run_all(plan, told.append) == told
    assert [result.repetition for result in told] == [0, 1]


# -- servers of other projects -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "needs", "workloads"),
    [
        ("ncat", "ncat", ["crowd", "solo"]),
        ("redis", "redis-server", ["crowd", "solo", "idle"]),
        ("nats", "nats-server", ["crowd"]),  # NATS sends its first PING after 2 s
    ],
)
def test_other_servers_are_timed(name: str, needs: str, workloads: Sequence[str]) -> None:
    program(needs)
    for kind in workloads:
        result = play(RECIPES[name], kind, 5)
        assert (result.status, result.reason) == (MEASURED, "")
        if kind == "crowd":
            assert result.figures["deliveries"] == 3 * 5 * 4


@pytest.mark.parametrize(
    ("name", "needs", "workloads"),
    [
        ("cluster", "nats-server", ["crowd", "stream", "latency"]),
        ("plain-redis", "redis-server", ["crowd", "stream"]),
        ("plain-nats", "nats-server", ["crowd", "stream"]),
    ],
)
def test_clusters_are_timed(
    name: str, needs: str, workloads: Sequence[str], tmp_path: Path
) -> None:
    """CAST-1: each client receives the lines of the clients at its own node and at other nodes."""
    program(needs)
    for kind in workloads:
        result = play(RECIPES[name], kind, 5)
        assert (result.status, result.reason) == (MEASURED, "")
        assert result.figures[f"cpu_per_message of {needs}"] > 0
    assert not list(tmp_path.iterdir())


def test_clients_connect_to_the_nodes_in_turn() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as first,
        socket.create_server(("127.0.0.1", 0)) as second,
    ):
        addresses = [listener.getsockname() for listener in (first, second)]
        room = Clients(addresses, CHAT, patience=5)
        for _ in range(3):
            room._connect(0)
        assert [sock.getpeername() for sock in room.sockets] == [*addresses, addresses[0]]
        room.close()


def test_a_cluster_without_its_engine_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = dataclasses.replace(RECIPES["cluster"], engine="no-such-engine")
    result = play(recipe)
    assert (result.status, result.reason) == (NOT_INSTALLED, "no program no-such-engine")


@pytest.mark.parametrize(
    ("engine", "node", "complaint"),
    [
        ("{python} -c 'raise SystemExit(3)'", "true", "the engine does not listen: "),
        (f"{shlex.quote(PYTHON)} -m http.server -b 127.0.0.1 {{port}}", "echo oops", "oops"),
    ],
)
def test_a_cluster_that_does_not_start_says_why(engine: str, node: str, complaint: str) -> None:
    recipe = dataclasses.replace(
        RECIPES["cluster"],
        command=f"{{python}} -P -m harness.bench.nodes 1 {{host}}:{{port}} {engine} -- {node}",
    )
    result = play(recipe)
    assert result.status == NOT_STARTED
    assert f"its last line: {complaint}" in result.reason


# -- joining -----------------------------------------------------------------------------------


def test_a_refused_connection_is_an_arrival_error() -> None:
    nobody = Clients([("127.0.0.1", free_port())], CHAT, patience=1)
    with pytest.raises(ArrivalError, match="client 0 was refused"):
        nobody.join(1, at_once=1, start_limit=0.05)
    nobody.close()


def test_an_unreachable_address_is_an_arrival_error() -> None:
    nobody = Clients([("::1", 9)], CHAT, patience=1)
    with pytest.raises(ArrivalError, match="client 0 can't connect: "):
        nobody.join(1, at_once=1, start_limit=0)
    nobody.close()


def test_quiet_raises_an_error_for_surplus_bytes_or_a_disconnect() -> None:
    with alone(dataclasses.replace(CHAT, hello=b"Hi"), patience=5) as (room, server):
        room.quiet(0.01)
        server.sendall(b"psst")
        with pytest.raises(ArrivalError, match="client 0 received 4 bytes too many"):
            room.quiet(5)
        server.close()
        room.heard[0].clear()
        with pytest.raises(ArrivalError, match="client 0 was disconnected"):
            room.quiet(5)


def test_a_disconnect_in_a_timed_round_is_an_error() -> None:
    with alone(CHAT, patience=5) as (room, server):
        due_bytes = room.due_bytes([1], {1: b"<127.0.0.1>"})
        server.close()
        with pytest.raises(ArrivalError, match=r"client 0 was disconnected$"):
            room.play([], [], due_bytes, witness=0)


def test_only_a_short_tail_of_output_is_kept_during_joins(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(clients, "JOIN_TAIL", 3)
    server = Server([PYTHON, str(TINY)], tiny().ready)
    try:
        found = server.wait_ready(20)
        assert found
        [port] = ports_of(found["endpoints"])
        room = Clients([("127.0.0.1", port)], CHAT, patience=5)
        times = room.join(5, at_once=2, start_limit=0)
        assert times == sorted(times)
        assert [bytes(heard) for heard in room.heard] == [b"me\n"] * 5
        room.close()
    finally:
        server.stop()
