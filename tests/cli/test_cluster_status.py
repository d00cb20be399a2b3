"""The output of chatroom.status --cluster, and the choice between a room and a cluster."""

import json
import sys
from collections.abc import Callable
from typing import Any

import pytest

from chatroom.cli import status
from chatroom.cli.cluster_status import lines
from tests.cli.clusters import ONE, TWO, URL, FakeCluster, fixture_cluster
from tests.cli.test_status import CLUSTER, found
from tests.system.ports import free_port

__all__ = ["fixture_cluster"]

Make = Callable[[list[Any], list[Any]], FakeCluster]

ERROR = {"error": "the room does not answer"}


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[Any, str, str]:
    """Return the exit code, standard output and standard error of a command."""
    with pytest.raises(SystemExit) as end:
        status.main(arguments)
    said = capsys.readouterr()
    return end.value.code, said.out, said.err


def answer(**changes: Any) -> dict[str, Any]:
    """Return the answer of a node."""
    return found(**changes) | {"cluster": CLUSTER}


def test_totals_nodes_and_members_are_shown(
    cluster: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    """Deliveries are added. Each node counts the messages of all nodes, so the larger count is
    shown."""
    one = answer(members=1, leaves={"closed": 1})
    two = answer(members=1, up=30.0, messages=15, bytes=3000, leaves={"closed": 1, "reset": 2})
    two["cluster"] = CLUSTER | {"up": False, "round_trip": 0.0, "pending": 7}
    fake = cluster([one], [two])
    code, said, error = run(capsys, "--cluster", URL)
    assert (code, error) == (0, "")
    assert said.splitlines() == [
        "nats://192.0.2.9:4222/office, 2 nodes",
        "2 members of 20,000; 10 joined, 4 left (2 closed, 2 reset), 0 refused",
        "30 messages (0.5/s), 3,000 deliveries (75.0/s), 6,000 bytes (100.0/s); lag 0 bytes",
        "",
        "          node       up  members  messages  deliveries  lag  engine  round trip  pending"
        "  lost  missed",
        "192.0.2.1:4000  0:01:00        1        30        1500    0      up      0.4 ms        0"
        "     0       0",
        "192.0.2.2:4000  0:00:30        1        15        1500    0    down           -        7"
        "     0       0",
        "",
        "              id            from     here  worker  said  heard  lag",
        "3@192.0.2.1:4000  192.0.2.7:5555  0:01:00       0    10     99    -",
        "3@192.0.2.2:4000  192.0.2.7:5555  0:01:00       0    10     99    -",
    ]
    assert fake.asked == [(ONE, {"ask": "status"}), (TWO, {"ask": "status"})]
    assert fake.closed


def test_a_node_that_fails_is_named_and_the_others_are_shown(
    cluster: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster([ERROR], [answer()])
    code, said, error = run(capsys, "--cluster", URL)
    assert (code, error) == (1, "python -m chatroom.status: failed on 1 of 2 nodes\n")
    assert said.splitlines()[-1] == "192.0.2.1:4000: the room does not answer"
    assert "\n192.0.2.2:4000  0:01:00 " in said
    cluster([ERROR], [ERROR])
    code, said, error = run(capsys, "--cluster", URL)
    assert (code, error) == (1, "python -m chatroom.status: failed on 2 of 2 nodes\n")
    assert len(said.splitlines()) == 3


def test_json_has_the_answer_of_each_node(
    cluster: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster([ERROR], [answer()])
    code, said, _ = run(capsys, "--cluster", URL, "--json")
    told = json.loads(said)
    assert code == 1
    assert told.pop("at") > 0
    assert told == {
        "cluster": "nats://192.0.2.9:4222/office",
        "nodes": [
            {"node": ONE.name, "number": ONE.number, **ERROR},
            {"node": TWO.name, "number": TWO.number, **answer()},
        ],
    }


def test_rates_cover_the_time_since_the_previous_report_of_each_node() -> None:
    def report(*answers: tuple[str, dict[str, Any]]) -> dict[str, Any]:
        nodes = [{"node": number, "number": number} | told for number, told in answers]
        return {"cluster": "u", "nodes": nodes}

    before = report(("1", answer(up=50.0, messages=20, deliveries=500)), ("2", ERROR))
    now = report(("1", answer()), ("2", answer(messages=0, deliveries=60, bytes=0)))
    shown = [*lines(now, before)][2]
    assert shown.startswith("30 messages (1.0/s), 1,560 deliveries (101.0/s), ")


# --- the choice ----------------------------------------------------------------------------------


def test_the_variable_chooses_the_cluster_unless_a_local_room_is_chosen(
    cluster: Make,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Any,
) -> None:
    monkeypatch.setenv("CHATROOM_CLUSTER", URL)
    cluster([answer()], [answer()])
    assert run(capsys)[0] == 0
    for option in (("--run-dir", str(tmp_path)), ("--room", "1")):
        assert "no running room" in run(capsys, *option)[2]
    monkeypatch.setenv("CHATROOM_CLUSTER", "")
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    assert "no running room" in run(capsys)[2]


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (("--cluster", "192.0.2.1"), "argument --cluster: must be nats://HOST:PORT/ROOM, or"),
        (("--cluster", URL, "--room", "1"), "--room chooses a local room, and --cluster all nodes"),
        (("--cluster", URL, "--run-dir", "x"), "--run-dir chooses a local room, and --cluster"),
        (("--cluster-ca", "x"), "--cluster-credentials and --cluster-ca need --cluster"),
    ],
)
def test_wrong_arguments_are_an_error(
    arguments: tuple[str, ...], error: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, said, told = run(capsys, *arguments)
    assert (code, said, told.count("\n")) == (2, "", 1)
    assert told.startswith(f"python -m chatroom.status: {error}")
    assert "secret" not in told


def test_a_wrong_variable_is_an_error(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CHATROOM_CLUSTER", "nats://user:secret@192.0.2.1")
    code, said, error = run(capsys)
    assert (code, said) == (2, "")
    assert error.startswith("python -m chatroom.status: CHATROOM_CLUSTER: must be nats://HOST:")
    assert "secret" not in error


def test_a_cluster_without_nats_py_is_an_error(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "nats", None)
    why = "--cluster needs nats-py: pip install 'chatroom[cluster]'"
    assert run(capsys, "--cluster", URL) == (1, "", f"python -m chatroom.status: {why}\n")


def test_a_server_that_can_not_be_reached_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    url = f"nats://127.0.0.1:{free_port()}/room"
    assert run(capsys, "--cluster", url) == (
        1,
        "",
        f"python -m chatroom.status: can't connect to {url}: Connection refused\n",
    )
