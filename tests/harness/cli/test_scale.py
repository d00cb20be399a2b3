"""The command `scale`."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.cli.main import main
from harness.scale.costs import BRIDGE, ENGINE, LOAD, WORKER, Costs
from harness.scale.points import FITTED, Point, fit_costs, read, simulate
from harness.scale.room import Setup, play_schedule

Change = Callable[[dict[str, Any]], object]

TRUE = Costs(turn=40e-6, read=6e-6, send=7e-6, publish=400e-6, follow=250e-6, push=20e-6)


def record(nodes: int) -> dict[str, Any]:
    """Return the record that `bench --json` would write for a room with the costs TRUE."""
    trials = []
    for server, each in (("chatroom", 0), ("cluster", nodes)):
        for kind, members in (
            *(("crowd", 10), ("crowd", 30), ("crowd", 100), ("crowd", 300)),
            *(("solo", 10), ("solo", 100), ("stream", 2)),
        ):
            point = Point(Setup(members, each), kind, 0, 0, 0, 0)
            found = simulate(point, TRUE)
            messages = 1000
            figures = {
                "deliveries": messages * (members - 1),
                "seconds": 1.0,
                "busy": messages * TRUE.of(found.counts, LOAD),
                "rate": found.rate,
                "cpu_per_message": TRUE.of(found.counts, WORKER + BRIDGE + ENGINE),
                "cpu_per_message of nats-server": TRUE.of(found.counts, ENGINE),
            }
            trials.append({"server": server, "workload": f"{kind} {members}", "figures": figures})
        room = play_schedule(Setup(100, each), TRUE, 200, 1, is_bench=True)
        latencies = {
            f"{name} at 200/s": 1000 * room.latency(part)
            for name, part in (("p50", 0.5), ("p99", 0.99))
        }
        trials.append({"server": server, "workload": "latency 100", "figures": latencies})
        trials.append({"server": server, "workload": "idle 100", "figures": {"memory": 2048.0}})
    trials.append({"server": "redis", "workload": "crowd 10", "figures": {"rate": 1.0}})
    trials.append({"server": "cluster", "workload": "crowd 10", "figures": {}})
    return {
        "machine": {"cores": 2},
        "settings": {"cluster": nodes, "workers": 2},
        "trials": trials,
    }


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    paths = []
    for nodes in (2, 4):
        path = tmp_path_factory.mktemp("scale") / f"{nodes}.json"
        path.write_text(json.dumps(record(nodes)))
        paths.append(str(path))
    return paths


def test_the_fit_recovers_the_costs_from_simulated_points(files: list[str]) -> None:
    points = read(json.loads(Path(file).read_text()) for file in files)
    assert points.memory == 2048
    costs = fit_costs([point for point in points.rounds if point.fitted])
    for point in points.rounds:
        assert simulate(point, costs).line == pytest.approx(point.line, rel=0.1), str(point)
    assert costs.send == pytest.approx(TRUE.send, rel=0.05)
    assert costs.follow == pytest.approx(TRUE.follow, rel=0.2)
    assert max(point.setup.members for point in points.rounds) > FITTED


def test_the_tables(files: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["scale", *files, "--members", "20000", "--rate", "10", "1e6"]) == 0
    points, errors, costs, needs, order = capsys.readouterr().out.split("\n\n")
    assert "| crowd 300, one room " in points
    assert "| latency 100 at 200/s, 4 nodes: p50, p99 ms " in points
    assert errors.startswith("Error, median and highest. fitted points: processor time ")
    assert "| a publication, at each node that receives it " in costs
    rows = [[cell.strip() for cell in row.split("|")[1:-1]] for row in needs.split("\n")[2:]]
    assert [row[:3:2] for row in rows] == [["20,000", "1"], ["20,000", "impossible"]]
    assert order.count("\n| ") == 7
    main(["scale", *files, "--members", "6000", "--each", "2"])
    assert "|   6,000 |     200 |" in capsys.readouterr().out


def change(server: str, workload: str, name: str, value: float | None = None) -> Change:
    """Return a function that changes a figure of a record; None removes it."""

    def apply(record: dict[str, Any]) -> None:
        for trial in record["trials"]:
            if (trial["server"], trial["workload"]) == (server, workload) and trial["figures"]:
                del trial["figures"][name]
                if value is not None:
                    trial["figures"][name] = value

    return apply


@pytest.mark.parametrize(
    ("spoil", "complaint"),
    [
        (lambda record: record.pop("machine"), "not a file of `bench --json`: KeyError('machine')"),
        (lambda record: record["trials"].clear(), "needs at least 4 crowds, solos or streams"),
        (lambda record: None, "needs clusters of two numbers of nodes"),
        (
            change("cluster", "crowd 10", "cpu_per_message of nats-server"),
            "crowd 10 of cluster needs a figure 'cpu_per_message of nats-server' above 0",
        ),
        (change("chatroom", "solo 100", "busy"), "solo 100 of chatroom needs a figure 'busy'"),
        (change("chatroom", "solo 100", "busy", 0.0), "solo 100 of chatroom needs a figure 'busy'"),
        (
            change("cluster", "latency 100", "p99 at 200/s"),
            "latency 100 of cluster needs a figure 'p99 at 200/s' above 0",
        ),
    ],
)
def test_a_file_without_the_needed_points_is_an_error(
    spoil: Change,
    complaint: str,
    files: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    found = json.loads(Path(files[0]).read_text())
    spoil(found)
    path = tmp_path / "figures.json"
    path.write_text(json.dumps(found))
    with pytest.raises(SystemExit) as ended:
        main(["scale", str(path)])
    assert ended.value.code == 2
    assert complaint in capsys.readouterr().err


def test_a_missing_file_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["scale", "/no/such/file"])
    assert "/no/such/file: [Errno 2]" in capsys.readouterr().err
