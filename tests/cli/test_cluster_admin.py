"""The output of chatroom.admin --cluster."""

from collections.abc import Callable
from typing import Any

import pytest

from chatroom.cli.admin import main
from tests.cli.clusters import ONE, TWO, URL, FakeCluster, fixture_cluster

__all__ = ["fixture_cluster"]

Make = Callable[[list[Any], list[Any]], FakeCluster]

ERROR = {"error": "the room does not answer"}
BANS: dict[str, Any] = {"bans": []}


def run(capsys: pytest.CaptureFixture[str], *order: str) -> tuple[Any, str, str]:
    """Return the exit code, standard output and standard error of a command."""
    with pytest.raises(SystemExit) as end:
        main(["--cluster", URL, *order])
    said = capsys.readouterr()
    return end.value.code, said.out, said.err


def test_a_network_is_kicked_on_all_nodes(
    cluster: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    fake = cluster([{"kicked": [3, 14]}], [{"kicked": []}])
    assert run(capsys, "kick", "10.0.0.0/8") == (
        0,
        "192.0.2.1:4000: kicked: 3, 14\n192.0.2.2:4000: kicked: none\n",
        "",
    )
    request = {"do": "kick", "who": "10.0.0.0/8"}
    assert fake.asked == [(ONE, request), (TWO, request)]
    assert fake.closed


def test_a_member_is_kicked_on_its_node_only(
    cluster: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    fake = cluster([], [{"kicked": [7]}])
    assert run(capsys, "kick", "7@192.0.2.2:4000") == (0, "192.0.2.2:4000: kicked: 7\n", "")
    assert fake.asked == [(TWO, {"do": "kick", "who": "7"})]


def test_a_member_s_address_is_banned_on_all_nodes(
    cluster: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    """Only the member's node knows its address, so this node is asked first."""
    banned = {"banned": "10.0.0.1", "bans": ["10.0.0.1"]}
    fake = cluster([banned | {"kicked": [7]}], [banned | {"kicked": [7, 8]}])
    assert run(capsys, "ban", "7@192.0.2.2:4000") == (
        0,
        "192.0.2.2:4000: banned 10.0.0.1; kicked: 7, 8\n"
        "192.0.2.1:4000: banned 10.0.0.1; kicked: 7\n",
        "",
    )
    assert fake.asked == [
        (TWO, {"do": "ban", "who": "7"}),
        (ONE, {"do": "ban", "who": "10.0.0.1"}),
    ]


def test_a_network_is_banned_and_unbanned_on_all_nodes(
    cluster: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    banned = {"banned": "10.0.0.0/8", "bans": ["10.0.0.0/8"], "kicked": []}
    fake = cluster([banned], [banned])
    said = "192.0.2.{}:4000: banned 10.0.0.0/8; kicked: none\n"
    assert run(capsys, "ban", "10.0.0.0/8") == (0, said.format(1) + said.format(2), "")
    assert [node for node, _ in fake.asked] == [ONE, TWO]
    cluster([{"unbanned": True, "bans": []}], [{"unbanned": False, "bans": ["::1"]}])
    assert run(capsys, "unban", "10.0.0.0/8") == (
        0,
        "192.0.2.1:4000: unbanned; bans: none\n192.0.2.2:4000: was not banned; bans: ::1\n",
        "",
    )


def test_a_text_is_said_once_by_a_node_that_answers(
    cluster: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    """CAST-1: a text that was sent to a node is never sent to another, even without an answer."""
    fake = cluster([ERROR], [BANS, {"said": 1, "members": 5}])
    assert run(capsys, "say", "lunch") == (
        0,
        "said to the members of 2 nodes, by 192.0.2.2:4000\n",
        "",
    )
    assert fake.asked[-1] == (TWO, {"do": "say", "text": "lunch"})
    fake = cluster([BANS, ERROR], [BANS])
    code, said, error = run(capsys, "say", "lunch")
    assert (code, said) == (1, "")
    assert error == "python -m chatroom.admin: 192.0.2.1:4000: the room does not answer\n"
    assert len(fake.asked) == 2


def test_members_and_bans_of_all_nodes_are_listed(
    cluster: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    member = {"id": 3, "address": "10.0.0.1", "port": 5, "worker": 0}
    cluster([{"members": [member]}, {"bans": ["::1"]}], [{"members": [member]}, BANS])
    assert run(capsys, "list") == (
        0,
        "              id   address  port  worker\n"
        "3@192.0.2.1:4000  10.0.0.1     5       0\n"
        "3@192.0.2.2:4000  10.0.0.1     5       0\n"
        "192.0.2.1:4000: bans: ::1\n"
        "192.0.2.2:4000: bans: none\n",
        "",
    )


def test_the_results_of_the_other_nodes_are_shown_if_one_fails(
    cluster: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    failed = "python -m chatroom.admin: failed on 1 of 2 nodes\n"
    cluster([ERROR], [{"kicked": [1]}])
    assert run(capsys, "kick", "::1") == (
        1,
        "192.0.2.1:4000: the room does not answer\n192.0.2.2:4000: kicked: 1\n",
        failed,
    )
    cluster([ERROR], [{"members": []}, BANS])
    assert run(capsys, "list") == (
        1,
        "id  address  port  worker\n"
        "192.0.2.1:4000: the room does not answer\n192.0.2.2:4000: bans: none\n",
        failed,
    )


@pytest.mark.parametrize(
    ("order", "one", "two", "error"),
    [
        (("kick", "::1"), [{"kicked": []}], [{"kicked": []}], "no member matches ::1"),
        (("kick", "7@192.0.2.1:4000"), [{"kicked": []}], [], "no member matches 7@192.0.2.1:4000"),
        (
            ("kick", "7@x:1"),
            [],
            [],
            "there is no node x:1; nodes: 192.0.2.1:4000, 192.0.2.2:4000",
        ),
        (("ban", "7@192.0.2.1:4000"), [ERROR], [], "192.0.2.1:4000: the room does not answer"),
        (
            ("unban", "::1"),
            [{"unbanned": False, "bans": []}],
            [{"unbanned": False, "bans": []}],
            "::1 is not banned on any node",
        ),
        (
            ("unban", "7@192.0.2.1:4000"),
            [],
            [],
            "an address, a network such as 10.0.0.0/8 or 2001:db8::/32, or unix, not"
            " '7@192.0.2.1:4000'",
        ),
    ],
)
def test_a_failed_command_prints_the_reason(
    order: tuple[str, str],
    one: list[Any],
    two: list[Any],
    error: str,
    cluster: Make,
    capsys: pytest.CaptureFixture[str],
) -> None:
    cluster(one, two)
    assert run(capsys, *order) == (1, "", f"python -m chatroom.admin: {error}\n")


@pytest.mark.parametrize("order", ["kick", "ban"])
def test_an_id_without_a_node_is_refused(
    order: str, cluster: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    fake = cluster([], [])
    assert run(capsys, order, "7") == (
        2,
        "",
        "python -m chatroom.admin: argument MEMBERS: must be 7@NODE, not 7: an id is unique only"
        " on its node; `list` shows both (--help shows the usage)\n",
    )
    assert fake.asked == []
