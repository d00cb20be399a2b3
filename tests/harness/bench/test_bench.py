"""The command `bench`: its arguments, output and files, and its clean-up after a signal."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from harness.bench.servers import RECIPES, Recipe
from harness.bench.trial import FAILED, MEASURED, NOT_INSTALLED, NOT_STARTED, Result
from harness.cli import bench
from harness.cli.main import main

ROOT = Path(__file__).parents[3]
TINY = f"{sys.executable} {Path(__file__).with_name('tiny.py')}"
QUICK = ["--seconds", "0", "--rounds", "1", "--repeat", "1", "--patience", "2"]


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ([], "COMMAND"),
        (["bench", "--crowd", "1"], "argument --crowd: must be 2 or more, not '1'"),
        (["bench", "--crowd"], "argument --crowd: expected at least one argument"),
        (["bench", "--solo", "ten"], "argument --solo: must be 2 or more, not 'ten'"),
        (["bench", "--idle", "-5"], "argument --idle: "),
        (["bench", "--idle", "9999999"], "argument --idle: 9999999 clients need more descr"),
        (["bench", "--repeat", "0"], "argument --repeat: must be 1 or more"),
        (["bench", "--rounds", "²"], "argument --rounds: must be 1 or more"),
        (["bench", "--workers", "0"], "argument --workers: must be 1 or more"),
        (["bench", "--cluster", "0"], "argument --cluster: must be 1 or more"),
        (["bench", "--pace", "0"], "argument --pace: must be 1 or more"),
        (["bench", "--seconds", "nan"], "argument --seconds: must be a number of seconds"),
        (["bench", "--patience", "-1"], "argument --patience: "),
        (["bench", "--limit", "long"], "argument --limit: must be a number of seconds"),
        (["bench", "--server", "irc"], "argument --server: must be chatroom, ncat, redis, nats"),
        (["bench", "--server", "=x"], "argument --server: must be"),
        (["bench", "--server", "a= "], "argument --server: 'a= ': the command is empty"),
        (["bench", "--server", "a='"], 'argument --server: "a=\'": No closing quotation'),
        (
            ["bench", "--server", "ncat", "ncat"],
            "argument --server: two servers have the same name",
        ),
        (["bench", "--json", "/"], "argument --json: can't be written: '/'"),
        (["bench", "--json", "/no/such/x"], "argument --json: can't be written"),
        (["bench", "--crow", "5"], "unknown option --crow; did you mean --crowd?"),
    ],
)
def test_wrong_arguments_are_named_in_one_line(
    arguments: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    output = capsys.readouterr()
    assert ended.value.code == 2
    assert output.out == ""
    assert output.err.count("\n") == 1
    assert complaint in output.err


def test_help_lists_each_argument(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["bench", "--help"])
    assert ended.value.code == 0
    text = capsys.readouterr().out
    for argument in ("--crowd", "--solo", "--idle", "--start", "--server", "--repeat", "--json"):
        assert argument in text
    [script] = re.findall(r"\S+/plain\.py", text)
    assert (ROOT / script).exists()


def test_a_whole_bench(tmp_path: Path) -> None:
    file = tmp_path / "figures.json"
    done = subprocess.run(
        [
            *(sys.executable, "-m", "harness", "bench", *QUICK, "--crowd", "3", "--solo", "3"),
            *("--idle", "4", "--start", "--json", str(file), "--server", f"good={TINY}"),
            *(f"bad={TINY} lose 12", "absent=no-such-program"),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    # The bad server loses its 12th line. Only the workload `crowd` sends that many lines.
    assert done.returncode == 0, done.stderr
    speed, idle, start, note = done.stdout.split("\n\n")
    assert [row.split()[1:5:3] for row in speed.split("\n")[2:]] == [
        *(["crowd", "good"], ["crowd", "bad"], ["crowd", "absent"]),
        *(["solo", "good"], ["solo", "bad"], ["solo", "absent"]),
    ]
    assert speed.count("not installed (no program no-such-program)") == 2
    assert speed.count("failed: ") == 1
    assert idle.count("KiB") == 2
    assert start.count("not installed") == 1
    assert note.startswith("Median of 1, ")
    assert done.stderr.count("\n") == 12
    record = json.loads(file.read_text())
    assert record["machine"]["cores"] >= 1
    assert record["settings"]["patience"] == 2
    assert [trial["status"] for trial in record["trials"][:3]] == [MEASURED, FAILED, NOT_INSTALLED]
    assert record["trials"][0]["command"][-1].endswith("tiny.py")
    assert record["trials"][0]["figures"]["deliveries"] == 6
    assert record["trials"][-3]["figures"].keys() == {"start"}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_bench_prints_its_figures_and_leaves_nothing_behind(
    number: int, tmp_path: Path
) -> None:
    pipe = tmp_path / "pids"
    os.mkfifo(pipe)
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    # This server writes its pid when a client has connected. It never sends a welcome.
    server = tmp_path / "server.py"
    server.write_text(
        "import os, signal, socket\n"
        "with socket.create_server(('127.0.0.1', 0)) as listener:\n"
        "    print('listening on 127.0.0.1:%d' % listener.getsockname()[1], flush=True)\n"
        "    client, _ = listener.accept()\n"
        f"    open({str(pipe)!r}, 'w').write(str(os.getpid()))\n"
        "    signal.pause()\n"
    )
    bench = subprocess.Popen(
        [
            *(sys.executable, "-m", "harness", "bench", *QUICK, "--crowd", "2", "--patience", "50"),
            *("--server", f"good={TINY}", f"mute={sys.executable} {server}"),
        ],
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(temporary)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    pid = int(pipe.read_text())
    children = children_of(bench.pid)
    assert pid in children
    assert len(children) == 2  # the other child is the load generator
    bench.send_signal(number)
    output, progress = bench.communicate(timeout=20)
    assert (bench.returncode, progress.splitlines()[1:]) == (130, ["interrupted"])
    assert [row.split()[1:5:3] for row in output.splitlines()[2:3]] == [["crowd", "good"]]
    assert output.splitlines()[-1].startswith("Interrupted: median of at most 1, ")
    assert not [child for child in children if Path(f"/proc/{child}").exists()]
    assert not list(temporary.iterdir())


def children_of(pid: int) -> list[int]:
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return [int(child) for task in tasks for child in (task / "children").read_text().split()]


# -- `main`, called in this process ------------------------------------------------------------


@pytest.fixture
def plans(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Replace `run_all` by a function that only adds its plan to the returned list."""
    seen: list[Any] = []

    def note(plan: Any, _told: Any) -> list[Result]:
        seen.append(plan)
        return [Result(str(w), r.name, n, MEASURED) for w, n, r in plan.trials()]

    describe = bench.describe_machine
    monkeypatch.setattr(bench, "run_all", note)
    monkeypatch.setattr(bench, "describe_machine", lambda _: describe([]))  # runs no `--version`
    return seen


def test_the_bench_needs_linux(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("platform.system", lambda: "Plan 9")
    with pytest.raises(SystemExit):
        main(["bench"])
    assert "needs Linux" in capsys.readouterr().err


def test_the_defaults(plans: list[Any]) -> None:
    assert main(["bench"]) == 0
    (plan,) = plans
    assert [str(workload) for workload in plan.workloads] == [
        *("crowd 100", "crowd 900", "solo 100", "latency 100", "idle 300", "start"),
    ]
    assert [server.name for server in plan.servers] == [
        "chatroom",
        "ncat",
        "redis",
        "nats",
        "plain",
        "floor",
    ]
    assert (plan.repeat, plan.workers) == (3, 2)


def test_a_cluster_is_compared_with_one_server(plans: list[Any]) -> None:
    assert main(["bench", "--cluster"]) == 0
    main(["bench", "--cluster", "3", "--solo", "5", "--pace", "50", "--server", "cluster"])
    default, named = plans
    assert [str(workload) for workload in default.workloads] == [
        *("crowd 100", "crowd 900", "stream 2", "latency 100"),
    ]
    assert [server.name for server in default.servers] == [
        *("cluster", "chatroom", "plain-redis", "plain-nats", "redis", "nats"),
    ]
    assert (default.nodes, default.pace) == (2, 200)
    assert [str(workload) for workload in named.workloads] == ["solo 5"]
    assert (named.nodes, named.pace) == (3, 50)


def test_a_plot_runs_a_sweep_of_crowd_sizes_unless_workloads_are_given(
    plans: list[Any], tmp_path: Path
) -> None:
    path = tmp_path / "plot.svg"
    assert main(["bench", "--plot", str(path)]) == 0
    main(["bench", "--plot", str(path), "--crowd", "5"])
    sweep, named = ([str(workload) for workload in plan.workloads] for plan in plans)
    sizes = (2, 10, 30, 100, 300, 900)
    assert sweep == [f"{kind} {size}" for kind in ("crowd", "solo") for size in sizes]
    assert named == ["crowd 5"]
    assert path.read_text().startswith("<svg ")


def test_a_failed_load_is_not_blamed_on_the_server(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    assert main(["bench", *QUICK, "--crowd", "3", "--server", f"good={TINY}"]) == 2
    assert "the load generator failed: without a message\n" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("ours", "theirs", "status"),
    [
        ([MEASURED, MEASURED], FAILED, 0),
        ([MEASURED, FAILED], MEASURED, 1),
        ([NOT_STARTED, FAILED], MEASURED, 1),
        ([NOT_STARTED, MEASURED], MEASURED, 3),
        ([NOT_INSTALLED, NOT_INSTALLED], MEASURED, 3),
    ],
)
def test_the_exit_status_depends_on_the_first_server(
    ours: list[str], theirs: str, status: int
) -> None:
    results = [Result("crowd 9", "ours", n, outcome) for n, outcome in enumerate(ours)]
    results.append(Result("crowd 9", "theirs", 0, theirs))
    assert bench.exit_status(results, "ours") == status


def test_the_footnote_names_the_known_versions(tmp_path: Path) -> None:
    machine: dict[str, Any] = {
        "system": "Linux 6",
        "processor": "Z80",
        "cores": 2,
        "python": "3.11.7",
        "load_average": 0.5,
        "versions": {"redis": "Redis server v=7.0.15 sha=0", "mine": "", "odd": "unknown"},
    }
    machine["versions"]["room"] = "chatroom 0.1.0 (compiled)"
    note = (
        "Median of 3, 2 cores of Z80, Linux 6, Python 3.11.7, redis 7.0.15, room 0.1.0 (compiled)."
    )
    assert bench.footnote("Median of 3", machine) == note
    machine["load_average"] = 6.44
    assert "busy with other work (load average 6.4 before" in bench.footnote("Median of 3", machine)
    assert bench.describe_machine([RECIPES["chatroom"]])["versions"].keys() == {"chatroom"}
    assert bench._processor(tmp_path / "none")
    (tmp_path / "cpuinfo").write_text("flags\t: x\nmodel name\t: Z80 CPU\n")
    assert bench._processor(tmp_path / "cpuinfo") == "Z80 CPU"


def test_every_recipe_is_registered_under_its_name() -> None:
    assert [recipe.name for recipe in RECIPES.values()] == list(RECIPES)
    assert all(isinstance(recipe, Recipe) for recipe in RECIPES.values())
