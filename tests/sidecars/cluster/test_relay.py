"""Tests of the part of the bridge that works on the node's two logs, without a network."""

import os
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from chatroom.config.cluster_url import ClusterURL
from chatroom.config.limits import Limits
from chatroom.config.settings import Settings
from chatroom.config.sizes import MIB
from chatroom.log import uplink as uplink_module
from chatroom.log.ring import Geometry, Log
from chatroom.log.uplink import Uplink
from chatroom.sidecars.cluster import relay as relay_module
from chatroom.sidecars.cluster.relay import Relay
from chatroom.sidecars.cluster.stream_message import Publication, foreign
from chatroom.system.doorbell import Doorbell
from chatroom.system.memory import anonymous_file
from tests.log.entries import Run, batch_of, runs

NODE = 7


class Stage:
    """The logs and doorbells of a node with one worker, which has seat 0."""

    def __init__(self, stack: ExitStack) -> None:
        settings = Settings(
            workers=1, cluster=ClusterURL.parse("nats://h/r"), max_lag=MIB, log_size=4 * MIB
        )
        limits = settings.limits
        self.limits: Limits = limits
        self.uplink = Uplink(self._file(uplink_module.geometry(limits).file_size, stack), limits)
        geometry = Geometry.of(limits)
        self.log = Log(self._file(geometry.file_size, stack), geometry)
        self.uplink.format()
        self.log.format()
        self.log.prepare_seat(0)
        self.log.prepare_seat(self.uplink.bridge)
        self.doorbells = [Doorbell.new() for _ in range(limits.seats + 2)]
        for doorbell in self.doorbells:
            stack.callback(doorbell.close)
        self.relay = self.new_relay()

    def _file(self, size: int, stack: ExitStack) -> int:
        fd = anonymous_file("a test's log", size)
        stack.callback(os.close, fd)
        return fd

    def new_relay(self, after: int = 0) -> Relay:
        return Relay(NODE, self.uplink, self.log, self.doorbells, after)

    def say(self, *said: Run) -> None:
        with self.uplink:
            self.uplink.append(batch_of(*said))

    def publications(self) -> list[Publication]:
        """Take all publications, and note them as published; return them."""
        found, position = [], self.uplink.published
        while publication := self.relay.next_publication(position):
            found.append(publication)
            position = publication.position
            self.relay.note_published(position)
        return found

    def rung(self) -> list[int]:
        """Return the numbers of the doorbells that were rung, and clear these doorbells."""
        found = []
        for number, doorbell in enumerate(self.doorbells):
            before = os.get_blocking(doorbell.fileno())
            os.set_blocking(doorbell.fileno(), False)
            try:
                os.read(doorbell.fileno(), 8)
                found.append(number)
            except BlockingIOError:
                pass
            os.set_blocking(doorbell.fileno(), before)
        return found


@pytest.fixture(name="stage")
def fixture_stage() -> Iterator[Stage]:
    with ExitStack() as stack:
        yield Stage(stack)


def test_everything_in_the_uplink_is_published_once(stage: Stage) -> None:
    assert stage.publications() == []
    stage.say(Run(1, b"<a>one\n"), Run(2, b"<b>two\n"))
    (first,) = stage.publications()
    assert [(run.sender, run.text) for run in first.runs] == [(1, b"<a>one\n"), (2, b"<b>two\n")]
    assert (first.node, first.position, first.number) == (NODE, stage.uplink.head, 2)
    stage.say(Run(1, b"<a>three\n"))
    (second,) = stage.publications()
    assert [run.text for run in second.runs] == [b"<a>three\n"]
    assert stage.uplink.unpublished == (0, 0)


@pytest.mark.pure
def test_a_publication_is_bounded(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """A publication is bounded in text and in runs. A run that is larger is published alone."""
    monkeypatch.setattr(relay_module, "MAX_TEXT", 20)
    monkeypatch.setattr(relay_module, "MAX_RUNS", 3)
    texts = [b"<a>%d\n" % number for number in range(8)] + [b"<a>" + b"x" * 50 + b"\n", b"<a>y\n"]
    for text in texts:
        stage.say(Run(1, text))
    found = stage.publications()
    assert [len(publication.runs) for publication in found] == [3, 3, 2, 1, 1]
    assert [run.text for publication in found for run in publication.runs] == texts


def test_line_6_each_node_ends_an_unfinished_line_itself(stage: Stage) -> None:
    """The LF in the uplink is not published, because a message of another node may come before
    it."""
    stage.say(Run(1, b"<a>begun"))
    (begun,) = stage.publications()
    stage.say(Run(2, b"<b>next\n"))
    (following,) = stage.publications()
    assert [run.text for run in following.runs] == [b"<b>next\n"]
    other = Publication(8, 2, 1, [following.runs[0]._replace(sender=5, text=b"<c>between\n")])
    for sequence, publication in enumerate([begun, other, following], 1):
        assert stage.relay.append(publication, sequence)
    found = runs(stage.log, 1, stage.log.head)
    assert [(run.sender, run.text) for run in found] == [
        (1, b"<a>begun"),
        (1, b"\n"),
        (foreign(8, 5), b"<c>between\n"),
        (2, b"<b>next\n"),
    ]


def test_a_new_bridge_continues_after_the_last_appended_publication(stage: Stage) -> None:
    """The room's own lines are not publications, so they do not change this place."""
    assert stage.new_relay(after=40).sequence == 40
    stage.say(Run(1, b"<a>one\n"))
    (publication,) = stage.publications()
    assert stage.relay.append(publication, 41)
    assert stage.relay.say("wait")
    assert stage.new_relay(after=40).sequence == 41
    assert runs(stage.log, 1, stage.log.head)[-1].text == b"<room>wait\n"


def test_the_workers_and_the_readers_are_woken_after_appends(stage: Stage) -> None:
    """`ring` wakes neither the bridge itself nor seats without a worker. A message of the room
    itself needs no `ring`."""
    stage.say(Run(1, b"<a>one\n"))
    (publication,) = stage.publications()
    with stage.log:
        stage.log.serve(0, stage.log.head)
    stage.rung()
    assert stage.relay.append(publication, 1)
    assert stage.rung() == []
    stage.relay.ring()
    assert stage.rung() == [0, stage.limits.seats + 1]
    assert stage.relay.say("wait")
    assert stage.rung() == [0, stage.limits.seats + 1]


def test_a_publication_waits_until_the_log_has_space(stage: Stage) -> None:
    """The publication is appended as a whole, or not at all. First the slow worker is woken, and
    later the bridge."""
    with stage.log:
        stage.log.serve(0, stage.log.head)
    text = b"<a>" + b"x" * 500_000 + b"\n"
    publication = Publication(8, 2, 1, [])
    stage.say(Run(1, text))
    (said,) = stage.publications()
    publication = publication._replace(runs=said.runs)
    sequence = 1
    while stage.relay.append(publication, sequence):
        sequence += 1
    assert stage.relay.sequence == sequence - 1
    stage.rung()
    assert not stage.relay.append(publication, sequence)
    assert stage.rung() == [0]
    with stage.log:
        assert stage.log.advance(0, stage.log.head) == [stage.uplink.bridge]
    assert stage.relay.append(publication, sequence)
    assert stage.new_relay().sequence == sequence


def test_published_messages_free_the_uplink(stage: Stage) -> None:
    """The bridge wakes workers that wait for space."""
    with stage.uplink:
        stage.uplink.wait_for_space(0)
    stage.say(Run(1, b"<a>one\n"))
    assert stage.uplink.unpublished == (1, 7)
    stage.rung()
    stage.publications()
    assert stage.rung() == [0]
