"""Rooms on several nodes, with a real NATS server. Every byte that a member receives is checked."""

import os
import select
import signal
import socket
from contextlib import ExitStack
from pathlib import Path

import pytest

from chatroom.config.sizes import MIB
from chatroom.log.origin import Origin
from chatroom.sidecars.cluster.engine import DESCRIPTION
from chatroom.sidecars.cluster.stream_message import Publication, Run
from tests.integration.clients import exchange
from tests.integration.crowd import Crowd
from tests.integration.cut import cuttable
from tests.integration.engines import (
    BRIDGE_DIED,
    ENGINE_DOWN,
    NOTICES,
    SMALL,
    engine,
    free_ports,
    node,
)
from tests.integration.faulty_room import faulty_room
from tests.integration.owner import Owner
from tests.integration.rooms import (
    DIED,
    ERROR_LINE,
    REGISTRY_DIED,
    Room,
    addresses,
    command,
    started,
)
from tests.integration.waiting import PATIENCE, over, until

#: Pattern of all log lines of a room with --verbose.
VERBOSE = " level=(info|warning) "


def crowd_of(*rooms: Room, members: int = 4) -> Crowd:
    """Return a crowd with `members` members in each room."""
    sources = iter(addresses(members * len(rooms)))
    clients = [here.join(next(sources)) for here in rooms for _ in range(members)]
    # On a busy machine, a new bridge may start so late that members receive the notices.
    return Crowd(clients, notices=NOTICES)


def test_node_1_a_message_reaches_the_members_of_all_nodes_once(tmp_path: Path) -> None:
    """NODE-1, CAST-2, PREFIX-2: the message has the sender's true address. The sender does not
    receive it."""
    with engine(tmp_path) as nats, node(nats) as here, node(nats) as there:
        alice, bob = here.join("127.0.0.2"), here.join("127.0.0.3")
        carol = there.join("127.0.0.4")
        alice.send("hello\n")
        for other in (bob, carol):
            other.expect("<127.0.0.2>hello\n")
        carol.send("hi\n")
        for other in (alice, bob):
            other.expect("<127.0.0.4>hi\n")
        bob.send("ends\n")
        carol.expect("<127.0.0.3>ends\n")
        alice.expect("<127.0.0.3>ends\n")


def test_node_2_all_nodes_have_one_order(tmp_path: Path) -> None:
    """NODE-2, CAST-1, CAST-4, CAST-5: members of three nodes send at the same time."""
    with engine(tmp_path) as nats, node(nats) as one, node(nats) as two, node(nats) as three:
        crowd = crowd_of(one, two, three)
        crowd.talk_on(2000)
        crowd.leave(crowd.present()[-1])
        crowd.add(two.connect("127.0.0.200"))
        crowd.talk_on(200)
        for here in (one, two, three):
            here.stop()
        crowd.end()


def test_line_6_an_unfinished_line_ends_before_a_message_of_another_node(tmp_path: Path) -> None:
    with engine(tmp_path) as nats, ExitStack() as stack:
        one, two = (stack.enter_context(node(nats, "--flush-after", 0.05)) for _ in range(2))
        alice, bob = one.join("127.0.0.2"), one.join("127.0.0.3")
        carol = two.join("127.0.0.4")
        alice.send("begun")
        for other in (bob, carol):
            other.expect("<127.0.0.2>begun")
        carol.send("next\n")
        bob.expect("\n<127.0.0.4>next\n")
        alice.expect("<127.0.0.4>next\n")
        bob.send("again\n")
        carol.expect("\n<127.0.0.3>again\n")


def test_node_5_a_node_joins_at_the_end_of_the_stream(tmp_path: Path) -> None:
    with engine(tmp_path) as nats, node(nats) as here:
        alice, bob = here.join("127.0.0.2"), here.join("127.0.0.3")
        alice.send("before\n")
        bob.expect("<127.0.0.2>before\n")
        with node(nats) as there:
            carol = there.join("127.0.0.4")
            alice.send("after\n")
            carol.expect("<127.0.0.2>after\n")


def test_node_7_two_rooms_share_an_engine_and_never_mix(tmp_path: Path) -> None:
    with engine(tmp_path) as nats, node(nats, name="a") as here, node(nats, name="b") as there:
        alice, bob = here.join("127.0.0.2"), here.join("127.0.0.3")
        carol = there.join("127.0.0.4")
        alice.send("only here\n")
        bob.expect("<127.0.0.2>only here\n")
        there.stop()
        carol.expect_end()


def test_leave_2_a_room_that_stops_publishes_everything_that_was_sent(tmp_path: Path) -> None:
    with engine(tmp_path) as nats, node(nats) as here, node(nats) as there:
        alice, bob, carol = here.join("127.0.0.2"), here.join("127.0.0.3"), there.join("127.0.0.4")
        text = b"".join(b"%d\n" % number for number in range(3000))
        alice.send(text)
        here.wait_until_read(alice)
        here.stop()
        due = b"".join(b"<127.0.0.2>%d\n" % number for number in range(3000))
        bob.expect(due)
        carol.expect(due)


# --- deaths --------------------------------------------------------------------------------------

BRIDGE_POINTS = [
    ("bridge unpublished", 10),
    ("bridge unacknowledged", 10),
    ("bridge acknowledged", 10),
    ("bridge noted", 10),
    ("bridge appending", 10),
    ("bridge half stored", 10),
    ("bridge appended", 10),
]


def test_node_3_a_bridge_dies_before_it_wakes_the_workers(tmp_path: Path) -> None:
    """NODE-3: the next bridge wakes them, although nobody says anything more."""
    with (
        engine(tmp_path) as nats,
        faulty_room(
            tmp_path,
            "bridge appended",
            # With this watchdog, the main process does not ring the workers either.
            *("--workers", 1, "--watchdog", 600, "--cluster", nats.url()),
            logs=BRIDGE_DIED,
        ) as (here, rounds),
    ):
        anna, ben = here.join("127.0.0.2"), here.join("127.0.0.3")
        rounds.load(pid=here.bridge().pid)
        anna.send("hello\n")
        ben.expect("<127.0.0.2>hello\n")
        assert not rounds.left


@pytest.mark.sample(1)
@pytest.mark.parametrize(("point", "skip"), BRIDGE_POINTS)
def test_node_3_a_bridge_dies_while_all_talk(tmp_path: Path, point: str, skip: int) -> None:
    """NODE-3: two bridges die, one after the other. On each node, no message is lost, duplicated or
    reordered."""
    with (
        engine(tmp_path) as nats,
        node(nats) as there,
        faulty_room(
            tmp_path,
            point,
            *("--workers", 2, *SMALL, "--cluster", nats.url()),
            skip=skip,
            logs=f"{BRIDGE_DIED}|{DIED}",
        ) as (here, rounds),
    ):
        crowd = crowd_of(there, here)
        crowd.talk_on(50)
        for _ in range(2):
            rounds.load(pid=here.bridge().pid)
            crowd.talk(lambda: not rounds.left, f"the bridge dies at {point!r}")
            crowd.talk_on(50)
        there.stop()
        here.stop()
        crowd.end()


@pytest.mark.sample(1)
@pytest.mark.parametrize("which", ["bridge", "worker", "both", "registry"])
def test_node_3_processes_are_killed_while_all_talk(tmp_path: Path, which: str) -> None:
    logs = f"{BRIDGE_DIED}|{DIED}|{REGISTRY_DIED}|event=worker-failed"
    with engine(tmp_path) as nats, node(nats) as there, node(nats, logs=logs) as here:
        crowd = crowd_of(there, here)
        crowd.talk_on(50)
        for deaths in range(1, 4):
            if which in ("bridge", "both"):
                here.bridge().kill()
            if which in ("worker", "both"):
                here.workers()[0].kill()
            if which == "registry":
                here.registry().kill()
            crowd.talk_on(100)
            if which in ("worker", "both"):
                here.wait_until_replaced(deaths, 2)
        crowd.talk_on()
        there.stop()
        here.stop()
        crowd.end()


def test_node_3_a_stopped_bridge_is_replaced(tmp_path: Path) -> None:
    logs = f"{BRIDGE_DIED}|event=bridge-stuck"
    with (
        engine(tmp_path) as nats,
        node(nats) as there,
        node(nats, "--watchdog", 2, logs=logs) as here,
    ):
        crowd = crowd_of(there, here)
        crowd.talk_on(50)
        stopped = here.bridge().pid
        os.kill(stopped, signal.SIGSTOP)
        crowd.talk(lambda: here.bridge().pid != stopped, "the bridge is replaced")
        crowd.talk_on()
        there.stop()
        here.stop()
        crowd.end()


@pytest.mark.thorough
@pytest.mark.parametrize("victim", ["leader", "another", "stopped leader"])
def test_node_6_a_server_of_three_dies(victim: str, tmp_path: Path) -> None:
    """NODE-6: no message is lost or duplicated. Members get notices only if the failover takes
    long."""
    with (
        engine(tmp_path, servers=3) as nats,
        node(nats, "--verbose", logs=VERBOSE) as there,
        node(nats, "--verbose", logs=VERBOSE) as here,
    ):
        crowd = crowd_of(there, here)
        for _ in range(2):
            crowd.talk_on(200)
            leader = nats.leader()
            chosen = leader if "leader" in victim else (leader + 1) % 3
            if victim == "stopped leader":
                nats.signal(signal.SIGSTOP, chosen)
                crowd.talk_on(200)
                nats.signal(signal.SIGCONT, chosen)
            else:
                nats.kill(chosen)
                crowd.talk_on(200)
                nats.start(chosen)
            crowd.talk_on(200)
        there.stop()
        here.stop()
        crowd.end()
        for told in crowd.notices():
            assert told == [*NOTICES, *NOTICES, *NOTICES][: len(told)], (
                "the notices do not alternate"
            )


@pytest.mark.thorough
def test_node_6_an_engine_that_is_down_for_long_loses_nothing(tmp_path: Path) -> None:
    """Members send until the uplink is full. Meanwhile a worker and the bridge die."""
    logs = f"{ENGINE_DOWN}|{BRIDGE_DIED}|{DIED}"
    with (
        engine(tmp_path) as nats,
        node(nats, logs=ENGINE_DOWN) as there,
        node(nats, logs=logs) as here,
    ):
        alice, bob = here.join("127.0.0.2"), here.join("127.0.0.3")
        carol = there.join("127.0.0.4")
        nats.kill()
        alice.send("first\n")
        for member in (alice, bob, carol):
            member.expect(NOTICES[0])
        line = b"x" * 999 + b"\n"
        sent = 0
        while select.select([], [alice], [], 0.5)[1]:
            sent += alice.send_what_fits(line[sent % len(line) :] + line * 1000)
        assert sent > 4 * MIB, "the uplink is full"
        here.workers()[0].kill()
        here.wait_until_replaced(1, 2)
        here.bridge().kill()
        nats.start()
        said = [b"first\n"] + [line] * (sent // len(line))
        due = b"".join(b"<127.0.0.2>" + each for each in said)
        size = len(due) + len(NOTICES[1])
        exchange({}, {bob: size, carol: size})
        for member in (bob, carol):
            assert member.take(size).replace(NOTICES[1], b"", 1) == due


def test_node_6_a_node_that_is_cut_off_misses_nothing(tmp_path: Path) -> None:
    """Only its members get the notices. Members of other nodes still receive each other's
    messages."""
    with (
        engine(tmp_path) as nats,
        cuttable(nats.ports[0]) as cable,
        node(nats) as there,
        node(nats, logs=ENGINE_DOWN, port=cable.port) as here,
    ):
        alice, bob = here.join("127.0.0.2"), here.join("127.0.0.3")
        carol, dave = there.join("127.0.0.4"), there.join("127.0.0.5")
        cable.cut()
        alice.send("alone?\n")
        for member in (alice, bob):
            member.expect(NOTICES[0])
        for number in range(100):
            carol.send(f"{number}\n")
            dave.expect(f"<127.0.0.4>{number}\n")
        cable.restore()
        missed = b"".join(b"<127.0.0.4>%d\n" % number for number in range(100))
        due = missed + b"<127.0.0.2>alone?\n"
        heard = bob.receive_bytes(len(due) + len(NOTICES[1])).replace(NOTICES[1], b"", 1)
        assert sorted(heard.splitlines()) == sorted(due.splitlines())
        assert heard.replace(b"<127.0.0.2>alone?\n", b"", 1) == missed
        assert alice.receive_bytes(len(missed + NOTICES[1])).replace(NOTICES[1], b"", 1) == missed
        for member in (carol, dave):
            member.expect("<127.0.0.2>alone?\n")


def test_node_6_a_connection_that_the_engine_ends_with_an_error_is_made_again(
    tmp_path: Path,
) -> None:
    """NATS does so when credentials have expired. nats-py then gives the connection up."""
    logs = f"{BRIDGE_DIED}|event=cluster-closed .* error=.*user authentication expired"
    with (
        engine(tmp_path) as nats,
        cuttable(nats.ports[0]) as cable,
        node(nats, logs=logs, port=cable.port) as here,
    ):
        alice, bob = here.join("127.0.0.2"), here.join("127.0.0.3")
        cable.forge(b"-ERR 'User Authentication Expired'\r\n")
        alice.send("again\n")
        bob.receive_until("<127.0.0.2>again\n")
        until(lambda: " event=cluster-closed " in here.errors, "the reason is logged")


def test_node_6_a_new_bridge_does_not_say_that_an_engine_is_in_reach(tmp_path: Path) -> None:
    """The bridge dies while the engine is out of reach. The new bridge says nothing until it has
    published what waits."""
    with engine(tmp_path) as nats, node(nats, logs=BRIDGE_DIED) as here:
        owner = Owner(here.run_dir)
        alice, bob = here.join("127.0.0.2"), here.join("127.0.0.3")
        nats.kill()
        alice.send("waits\n")
        bob.expect(NOTICES[0])
        dead = here.bridge()
        dead.kill()
        until(lambda: dead.pid != here.bridge().pid, "there is a new bridge")
        with socket.create_server(("127.0.0.1", nats.ports[0])) as listener:
            listener.settimeout(PATIENCE)
            listener.accept()[0].close()  # it has reported its state before it connects
        assert not [found for _ in range(2) if (found := owner.status()["cluster"])["up"]]
        nats.start()
        heard = bob.receive_bytes(len(b"<127.0.0.2>waits\n" + NOTICES[1]))
        assert sorted(heard.splitlines(keepends=True)) == [b"<127.0.0.2>waits\n", NOTICES[1]]


@pytest.mark.parametrize("wrong", ["position", "text"])
def test_a_publication_of_another_client_stops_no_node(wrong: str, tmp_path: Path) -> None:
    """Another client publishes in the name of a node: its position is beyond the node's uplink, or
    it has too many runs for the log."""
    logs = "" if wrong == "position" else "event=cluster-unreadable .*runs, more than "
    with engine(tmp_path) as nats, node(nats, logs=logs) as here:
        alice, bob = here.join("127.0.0.2"), here.join("127.0.0.3")
        alice.send("one\n")
        bob.expect("<127.0.0.2>one\n")
        [subject] = nats.subjects()
        number = int(subject.rpartition(".")[2], 16)
        run = Run(1, Origin("192.0.2.1", 11).pack(), 1, b"<192.0.2.1>forged\n")
        forged = Publication(number, 10**9, 10**9, [run] * (1 if wrong == "position" else 9000))
        assert "seq" in nats.publish(subject, forged.encode())
        for number in range(3):
            alice.send(f"{number}\n")
            bob.receive_until(f"<127.0.0.2>{number}\n")


def test_node_6_the_log_and_the_status_say_why_messages_wait(tmp_path: Path) -> None:
    reason = "message size exceeds maximum allowed"
    logs = f'event=cluster-down .* error="{reason}"|event=cluster-up .* seconds=[0-9]+ '
    with engine(tmp_path) as nats, node(nats, logs=logs) as here:
        alice, bob = here.join("127.0.0.2"), here.join("127.0.0.3")
        nats.change(max_msg_size=50)
        alice.send("waits\n")
        bob.expect(NOTICES[0])
        owner = Owner(here.run_dir)
        assert f"({reason})" in owner.run("status")[1]
        nats.change(max_msg_size=-1)
        bob.receive_until("<127.0.0.2>waits\n")
        bob.receive_until(NOTICES[1])
        until(lambda: f"({reason})" not in owner.run("status")[1], "the status is up to date")


@pytest.mark.thorough
def test_a_node_that_is_cut_off_for_too_long_reports_what_it_misses(tmp_path: Path) -> None:
    """The stream keeps only the last 20 publications. The node continues with these."""
    logs = f"{ENGINE_DOWN}|event=cluster-missed .*publications="
    with (
        engine(tmp_path) as nats,
        cuttable(nats.ports[0]) as cable,
        node(nats) as there,
        node(nats, logs=logs, port=cable.port) as here,
    ):
        nats.change(max_msgs=20)
        bob = here.join("127.0.0.3")
        carol, dave = there.join("127.0.0.4"), there.join("127.0.0.5")
        cable.cut()
        for number in range(100):
            carol.send(f"{number}\n")
            dave.expect(f"<127.0.0.4>{number}\n")
        bob.expect(NOTICES[0])
        cable.restore()
        heard = bob.receive_until("<127.0.0.4>99\n").replace(NOTICES[1], b"", 1)
        assert heard == b"".join(b"<127.0.0.4>%d\n" % number for number in range(80, 100))
        until(lambda: "publications=80 " in here.errors, "the missed publications are logged")


@pytest.mark.parametrize("deleted", [0, 2])
def test_a_message_that_is_deleted_from_the_stream_is_reported(
    deleted: int, tmp_path: Path
) -> None:
    """A node that was cut off during the deletion receives all other messages."""
    logs = f"{ENGINE_DOWN}|event=cluster-missed .*publications=1 "
    with (
        engine(tmp_path) as nats,
        cuttable(nats.ports[0]) as cable,
        node(nats) as there,
        node(nats, logs=logs, port=cable.port) as here,
    ):
        bob = here.join("127.0.0.3")
        carol, dave = there.join("127.0.0.4"), there.join("127.0.0.5")
        carol.send("first\n")
        bob.expect("<127.0.0.4>first\n")
        cable.cut()
        for number in range(4):
            carol.send(f"{number}\n")
            dave.receive_until(f"<127.0.0.4>{number}\n")
        sequence = {"seq": 2 + deleted}
        assert nats.ask("STREAM.MSG.DELETE.CHATROOM_room", sequence).get("success")
        cable.restore()
        heard = bob.receive_until("<127.0.0.4>3\n")
        for notice in NOTICES:
            heard = heard.replace(notice, b"")
        numbers = [number for number in range(4) if number != deleted]
        assert heard == b"".join(b"<127.0.0.4>%d\n" % number for number in numbers)
        carol.send("last\n")
        bob.receive_until("<127.0.0.4>last\n")


@pytest.mark.thorough
def test_messages_that_the_engine_has_lost_are_reported(tmp_path: Path) -> None:
    """The engine's disk has an old state, as after a power failure. The nodes continue to work."""
    logs = f"{ENGINE_DOWN}|event=cluster-(lost|rewound) "
    with (
        engine(tmp_path) as nats,
        node(nats, logs=logs) as there,
        node(nats, logs=logs) as here,
    ):
        alice, bob = here.join("127.0.0.2"), here.join("127.0.0.3")
        carol = there.join("127.0.0.4")
        alice.send("kept\n")
        bob.expect("<127.0.0.2>kept\n")
        carol.expect("<127.0.0.2>kept\n")
        nats.kill()
        nats.copy("before")
        nats.start()
        for number in range(10):
            alice.send(f"lost {number}\n")
            for member in (bob, carol):
                member.receive_until(f"<127.0.0.2>lost {number}\n")
        nats.kill()
        nats.restore("before")
        nats.start()
        alice.send("after\n")
        for member in (bob, carol):
            member.receive_until("<127.0.0.2>after\n")
        carol.send("and on\n")
        bob.receive_until("<127.0.0.4>and on\n")
        assert "event=cluster-lost cluster=" in here.errors
        assert "messages=10 " in here.errors


@pytest.mark.thorough
def test_a_deleted_stream_is_created_by_the_next_room(tmp_path: Path) -> None:
    """Until then, messages wait, and the bridge uses little processor time."""
    logs = f"{ENGINE_DOWN}|event=cluster-(rewound|lost) "
    with engine(tmp_path) as nats, node(nats, logs=logs) as here:
        alice, bob = here.join("127.0.0.2"), here.join("127.0.0.3")
        for number in range(5):
            alice.send(f"{number}\n")
            bob.expect(f"<127.0.0.2>{number}\n")
        assert nats.ask("STREAM.DELETE.CHATROOM_room", {}).get("success")
        alice.send("waits\n")
        bob.expect(NOTICES[0])
        used = here.bridge().used
        assert over(1.0, lambda: here.bridge().used - used) < 0.3
        with node(nats) as there:
            bob.receive_until("<127.0.0.2>waits\n")
            carol = there.join("127.0.0.4")
            alice.send("after\n")
            bob.receive_until("<127.0.0.2>after\n")
            carol.receive_until("<127.0.0.2>after\n")


# --- the engine can't be used --------------------------------------------------------------------


def test_node_6_members_are_told_once_that_messages_wait_and_when_they_go_on(
    tmp_path: Path,
) -> None:
    """NODE-6, CAST-1: no member is disconnected. Messages that were sent while the engine was
    stopped are delivered once."""
    with (
        engine(tmp_path) as nats,
        node(nats, logs=ENGINE_DOWN) as there,
        node(nats, logs=ENGINE_DOWN) as here,
    ):
        alice, bob, carol = here.join("127.0.0.2"), here.join("127.0.0.3"), there.join("127.0.0.4")
        nats.signal(signal.SIGSTOP)
        alice.send("are you there?\n")
        for member in (alice, bob, carol):
            member.expect(NOTICES[0])
        alice.send("hello?\n")
        nats.signal(signal.SIGCONT)
        due = b"<127.0.0.2>are you there?\n<127.0.0.2>hello?\n"
        for member in (bob, carol):
            heard = member.receive_bytes(len(due) + len(NOTICES[1]))
            assert heard.replace(NOTICES[1], b"", 1) == due
        alice.expect(NOTICES[1])
        there.stop()
        here.stop()
        for member in (alice, bob, carol):
            member.expect_end()


ERRORS = {
    "no engine": ("nats://127.0.0.1:{free}/room", "can't connect to nats://127.0.0.1:"),
    "no room": ("nats://127.0.0.1:{port}/", "must be a URL that ends with the room's name"),
    "no URL": ("127.0.0.1:{port}/room", "must be nats://HOST:PORT/ROOM, or tls://HOST:PORT/ROOM"),
    "no TLS": ("tls://127.0.0.1:{port}/room", "the server does not offer TLS"),
}


@pytest.mark.parametrize("name", ERRORS)
def test_a_url_that_can_t_be_used_is_a_one_line_error(name: str, tmp_path: Path) -> None:
    url, line = ERRORS[name]
    with engine(tmp_path) as nats:
        [free] = free_ports(1)
        given = url.format(port=nats.ports[0], free=free)
        with started(command("--cluster", given), logs=ERROR_LINE) as here:
            here.expect_error(2 if "must be" in line else 1, line)


def test_an_engine_without_jetstream_is_a_one_line_error(tmp_path: Path) -> None:
    with (
        engine(tmp_path, jetstream=False) as nats,
        started(command("--cluster", nats.url()), logs=ERROR_LINE) as here,
    ):
        here.expect_error(1, nats.url(), "JetStream is not enabled")


def test_an_engine_that_accepts_only_small_messages_is_a_one_line_error(tmp_path: Path) -> None:
    with (
        engine(tmp_path, settings="max_payload: 400000") as nats,
        started(command("--cluster", nats.url()), logs=ERROR_LINE) as here,
    ):
        here.expect_error(1, nats.url(), "max_payload of nats-server is 400000 bytes")


def test_an_engine_without_space_for_the_stream_is_a_one_line_error(tmp_path: Path) -> None:
    limit = f'jetstream: {{store_dir: "{tmp_path}/small", max_file_store: 100M}}'
    with (
        engine(tmp_path, jetstream=False, settings=limit) as nats,
        started(command("--cluster", nats.url()), logs=ERROR_LINE) as here,
    ):
        here.expect_error(1, nats.url(), "insufficient storage", "the stream of a room needs 256")


@pytest.mark.parametrize(
    ("publish", "subscribe", "line"),
    [
        ("chatroom.room.>", ">", 'permissions violation for publish to "$js.api'),
        (">", "_INBOX.>", 'permissions violation for subscription to "chatroom.room.'),
    ],
)
def test_a_missing_permission_is_a_one_line_error(
    publish: str, subscribe: str, line: str, tmp_path: Path
) -> None:
    allowed = f'publish: "{publish}", subscribe: "{subscribe}"'
    users = f"authorization: {{users: [{{user: u, password: p, permissions: {{{allowed}}}}}]}}"
    with engine(tmp_path, settings=users) as nats:
        url = nats.url().replace("://", "://u:p@")
        with started(command("--cluster", url), logs=ERROR_LINE) as here:
            here.expect_error(1, nats.url(), line)


@pytest.mark.parametrize("wrong", ["description", "storage", "subjects"])
def test_node_7_a_stream_with_other_settings_is_a_one_line_error(
    wrong: str, tmp_path: Path
) -> None:
    config = {
        "name": "CHATROOM_room",
        "description": DESCRIPTION,
        "subjects": ["chatroom.room.log.*"],
        "retention": "limits",
        "storage": "file",
    }
    other = {"description": "another", "storage": "memory", "subjects": ["chatroom.room.>"]}
    with engine(tmp_path) as nats:
        nats.ask("STREAM.CREATE.CHATROOM_room", config | {wrong: other[wrong]})
        with started(command("--cluster", nats.url()), logs=ERROR_LINE) as here:
            here.expect_error(1, nats.url(), "stream CHATROOM_room ", str(other[wrong]))


def test_node_4_all_processes_of_a_node_are_killed_and_it_starts_again(tmp_path: Path) -> None:
    """Members of the killed node are disconnected. Members of other nodes receive only whole
    messages."""
    with engine(tmp_path) as nats, node(nats) as there:
        alice, bob = there.join("127.0.0.2"), there.join("127.0.0.3")
        with started(command("--workers", 2, *SMALL, "--cluster", nats.url())) as here:
            here.listen()
            carol = here.join("127.0.0.4")
            carol.send("a word\n")
            alice.expect("<127.0.0.4>a word\n")
            bob.expect("<127.0.0.4>a word\n")
            here.kill()
            carol.receive_rest()
            assert carol.ended
        alice.send("still here\n")
        bob.expect("<127.0.0.2>still here\n")
        with node(nats) as again:
            dave = again.join("127.0.0.5")
            dave.send("back\n")
            alice.expect("<127.0.0.5>back\n")
            bob.expect("<127.0.0.5>back\n")
            bob.send("welcome\n")
            dave.expect("<127.0.0.3>welcome\n")


# --- the engine ----------------------------------------------------------------------------------


def test_node_6_an_engine_that_is_killed_and_restarted_loses_nothing(tmp_path: Path) -> None:
    with (
        engine(tmp_path) as nats,
        node(nats, "--verbose", logs=VERBOSE) as there,
        node(nats, "--verbose", logs=VERBOSE) as here,
    ):
        crowd = crowd_of(there, here)
        for _ in range(3):
            crowd.talk_on(100)
            for _ in range(5):
                crowd.turn()
            nats.kill()
            for _ in range(5):
                crowd.turn()
            nats.start()
            crowd.talk_on(100)
        there.stop()
        here.stop()
        crowd.end()
