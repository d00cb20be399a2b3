"""A fake cluster for the commands with --cluster."""

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from chatroom.cli import cluster_admin, cluster_status
from chatroom.config.cluster_url import ClusterURL
from chatroom.sidecars.cluster.requests import RemoteNode

URL = "nats://user:secret@192.0.2.9/office"
"""URL of the cluster, as given to a command."""

ONE, TWO = RemoteNode("1" * 16, "192.0.2.1:4000"), RemoteNode("2" * 16, "192.0.2.2:4000")


class FakeCluster:
    """Two nodes. `answers` has, for each node, its answers in order."""

    def __init__(self, answers: Mapping[RemoteNode, Sequence[dict[str, Any]]]) -> None:
        self.url = ClusterURL.parse(URL)
        self.asked: list[tuple[RemoteNode, Any]] = []
        """Requests in order, each with its node."""
        self.closed = False
        self._answers = {node: list(found) for node, found in answers.items()}

    def nodes(self) -> list[RemoteNode]:
        return [ONE, TWO]

    def ask(
        self, nodes: Sequence[RemoteNode], request: dict[str, Any]
    ) -> list[tuple[RemoteNode, dict[str, Any]]]:
        self.asked += [(node, request) for node in nodes]
        return [(node, self._answers[node].pop(0)) for node in nodes]

    def sleep(self, seconds: float) -> None:
        """Return at once."""

    def close(self) -> None:
        self.closed = True


@pytest.fixture(name="cluster")
def fixture_cluster(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a function that makes the cluster of the next command."""

    def made(one: Sequence[dict[str, Any]], two: Sequence[dict[str, Any]]) -> FakeCluster:
        fake = FakeCluster({ONE: one, TWO: two})
        for module in (cluster_admin, cluster_status):
            monkeypatch.setattr(module, "Cluster", lambda *_: fake)
        return fake

    return made
