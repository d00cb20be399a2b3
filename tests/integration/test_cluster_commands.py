"""chatroom.status --cluster and chatroom.admin --cluster, with a NATS server and two nodes."""

import contextlib
import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from chatroom.sidecars.cluster.bridge import DISCONNECTED_NOTICE
from tests.integration.clients import Client
from tests.integration.engines import ENGINE_DOWN, Engine, engine, node
from tests.integration.owner import Owner
from tests.integration.rooms import ROOT, Room
from tests.integration.test_metrics import METRICS, scrape, where
from tests.integration.waiting import PATIENCE, until


class Commands:
    """The commands for all nodes of a room."""

    def __init__(self, url: str) -> None:
        self._url = url

    def run(self, module: str, *arguments: object) -> tuple[int, str, str]:
        """Return the exit code, output and error output of a command."""
        words = ["-m", f"chatroom.{module}", "--cluster", self._url, *map(str, arguments)]
        done = subprocess.run(
            [sys.executable, *words], cwd=ROOT, capture_output=True, text=True, check=False
        )
        return done.returncode, done.stdout, done.stderr

    def admin(self, *words: object) -> str:
        """Return the output of a command that must succeed."""
        code, said, error = self.run("admin", *words)
        assert (code, error) == (0, "")
        return said


@pytest.fixture(name="nats")
def fixture_nats(tmp_path: Path) -> Iterator[Engine]:
    with engine(tmp_path) as nats:
        yield nats


def id_of(client: Client, here: Room) -> str:
    """Return the id of a member as ID@NODE."""
    return f"{Owner(here.run_dir).member(client)['id']}@{here.where}"


def test_commands_reach_the_members_of_all_nodes(nats: Engine) -> None:
    """CAST-1: each member receives the text of `say` once."""
    commands = Commands(nats.url())
    with node(nats) as here, node(nats) as there:
        alice, bob = here.join("127.0.0.2"), here.join("127.0.0.3")
        carol, dave = there.join("127.0.0.3"), there.join("127.0.0.4")
        first, second = sorted([here.where, there.where])
        said = commands.admin("say", "lunch")
        assert said == f"said to the members of 2 nodes, by {first}\n"
        for member in (alice, bob, carol, dave):
            member.expect("<room>lunch\n")

        code, said, error = commands.run("status", "--json")
        assert (code, error) == (0, "")
        nodes = json.loads(said)["nodes"]
        assert [found["node"] for found in nodes] == [first, second]
        assert [found["room"]["members"] for found in nodes] == [2, 2]
        ends = {member["port"] for found in nodes for member in found["members"]}
        assert ends == {member.end[1] for member in (alice, bob, carol, dave)}
        assert all(found["cluster"]["up"] for found in nodes)
        code, said, error = commands.run("status")
        assert (code, error) == (0, "")
        lines = said.splitlines()
        assert lines[:1] == [f"{nats.url()}, 2 nodes"]
        assert lines[1].startswith("4 members of ")
        assert {line.split()[0] for line in lines[-4:]} == {
            *(id_of(member, here) for member in (alice, bob)),
            *(id_of(member, there) for member in (carol, dave)),
        }

        number = id_of(dave, there).partition("@")[0]
        said = commands.admin("kick", f"{number}@{there.where}")
        assert said == f"{there.where}: kicked: {number}\n"
        dave.expect("<room>You were kicked\n")
        dave.expect_end()
        ids = {room.where: id_of(client, room) for client, room in ((bob, here), (carol, there))}
        said = commands.admin("ban", ids[here.where])
        assert sorted(said.splitlines()) == [
            f"{name}: banned 127.0.0.3; kicked: {ids[name].partition('@')[0]}"
            for name in (first, second)
        ]
        for member in (bob, carol):
            member.expect("<room>You were banned\n")
            member.expect_end()
        assert commands.admin("list").splitlines()[-2:] == [
            f"{first}: bans: 127.0.0.3",
            f"{second}: bans: 127.0.0.3",
        ]
        said = commands.admin("unban", "127.0.0.3")
        assert said == f"{first}: unbanned; bans: none\n{second}: unbanned; bans: none\n"


def test_an_engine_out_of_reach_is_shown_by_the_status_and_the_metrics(nats: Engine) -> None:
    """The status of the local room needs no engine."""
    with node(nats, *METRICS, logs=ENGINE_DOWN) as here:
        url, owner = where(here), Owner(here.run_dir)
        alice, bob = here.join("127.0.0.2"), here.join("127.0.0.3")
        alice.send("one\n")
        bob.expect("<127.0.0.2>one\n")
        owner.until(lambda found: found["cluster"]["round_trip"] > 0, "the round trip is reported")
        code, said, _ = owner.run("status")
        assert code == 0
        assert re.search(
            rf"^{nats.url()}: in reach for 0:00:\d\d, round trip [\d.]+ ms; 0 messages \(0 bytes\)"
            r" pending, 0 lost; 0 publications missed$",
            said,
            re.MULTILINE,
        )
        assert scrape(url)["chatroom_cluster_engine_up"] == 1
        assert scrape(url)["chatroom_cluster_round_trip_seconds"] > 0
        nats.kill()
        alice.send("two\n")
        owner.until(lambda found: not found["cluster"]["up"], "the engine is out of reach")
        until(lambda: scrape(url)["chatroom_cluster_engine_up"] == 0, "the metrics show it")
        assert scrape(url)["chatroom_cluster_pending_messages"] == 1
        assert scrape(url)["chatroom_cluster_pending_bytes"] == len("<127.0.0.2>two\n")
        _, said, _ = owner.run("status")
        assert f"\n{nats.url()}: out of reach for 0:00:0" in said
        assert "; 1 message (15 bytes) pending, 0 lost; " in said
        code, said, error = Commands(nats.url()).run("status")
        assert (code, said) == (1, "")
        assert error == (
            f"python -m chatroom.status: can't connect to {nats.url()}: Connection refused\n"
        )
        bob.expect(f"<room>{DISCONNECTED_NOTICE}\n")
        nats.start()
        owner.until(lambda found: found["cluster"]["up"], "the engine is in reach")
        owner.until(lambda found: found["cluster"]["pending"] == 0, "the message is published")


def test_a_cluster_without_nodes_is_reported(nats: Engine) -> None:
    for module, words in (("status", ()), ("admin", ("list",)), ("admin", ("say", "x"))):
        code, said, error = Commands(nats.url("empty")).run(module, *words)
        assert (code, said) == (1, "")
        assert error == (
            f"python -m chatroom.{module}: no node of the room empty answers at"
            f" {nats.url('empty')}\n"
        )


def test_watch_repeats_the_status_until_the_connection_is_lost(nats: Engine) -> None:
    command = [sys.executable, "-m", "chatroom.status", "--cluster", nats.url(), "--watch", "0.1"]
    with node(nats, logs=ENGINE_DOWN) as here, contextlib.ExitStack() as leaving:

        def watch() -> "subprocess.Popen[str]":
            process = subprocess.Popen(
                [*command, "--json"],
                cwd=ROOT,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            leaving.enter_context(process)
            leaving.callback(process.kill)
            assert process.stdout is not None
            for _ in range(2):
                told = json.loads(process.stdout.readline())
                assert [found["node"] for found in told["nodes"]] == [here.where]
            return process

        interrupted, lost = watch(), watch()
        interrupted.send_signal(signal.SIGINT)
        _, error = interrupted.communicate(timeout=PATIENCE)
        assert (interrupted.returncode, error) == (0, "")
        nats.kill()
        _, error = lost.communicate(timeout=PATIENCE)
        assert lost.returncode == 1
        assert error == f"python -m chatroom.status: the connection to {nats.url()} is lost\n"
        Owner(here.run_dir).until(
            lambda found: not found["cluster"]["up"], "the engine is out of reach"
        )
