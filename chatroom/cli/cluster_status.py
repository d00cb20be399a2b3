"""The status of all nodes of a cluster: `chatroom.status --cluster`."""

import argparse
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from chatroom.cli.cluster import Cluster, failed
from chatroom.cli.status import (
    RATES,
    Report,
    Source,
    format_round_trip,
    format_time,
    members,
    rate,
    table,
    totals,
)
from chatroom.config.cluster_url import ClusterURL
from chatroom.wording import counted

COLUMNS = (
    *("node", "up", "members", "messages", "deliveries", "lag"),
    *("engine", "round trip", "pending", "lost", "missed"),
)
"""Columns of the table of nodes."""

Node = Mapping[str, Any]
"""A node's part of a report: its number and name, and its room's status or an error."""


def source(url: ClusterURL, options: argparse.Namespace, parser: argparse.ArgumentParser) -> Source:
    """Connect to the cluster, and return the source of its status."""
    cluster = Cluster(url, options, parser)
    return Source(partial(look, cluster), lines, why_failed, cluster.sleep, cluster.close)


def look(cluster: Cluster) -> Report:
    """Return the reports of all nodes."""
    nodes = [
        {"node": node.name, "number": node.number} | answer
        for node, answer in cluster.ask(cluster.nodes(), {"ask": "status"})
    ]
    return {"cluster": str(cluster.url), "nodes": nodes}


def why_failed(found: Report) -> str:
    """Return a text that says how many nodes gave no status; empty if all gave one."""
    return failed([(node["node"], node) for node in found["nodes"]])


def lines(found: Report, before: Report | None) -> Iterator[str]:
    """Yield the lines of a report. Rates are averages since `before`, or since a node's start."""
    nodes = [node for node in found["nodes"] if "error" not in node]
    yield f"{found['cluster']}, {counted(len(found['nodes']), 'node')}"
    if nodes:
        yield from totals(_total(nodes), _rates(nodes, before))
        yield ""
        yield from table(COLUMNS, [_row(node) for node in nodes])
    for node in found["nodes"]:
        if "error" in node:
            yield f"{node['node']}: {node['error']}"
    if rows := [
        member | {"id": f"{member['id']}@{node['node']}"}
        for node in nodes
        for member in node["members"]
    ]:
        yield ""
        yield from members(rows)


def _total(nodes: Sequence[Node]) -> dict[str, Any]:
    """Return the totals of these nodes.

    Each node counts the messages of all nodes since its own start, so the largest count is that of
    the cluster.
    """
    rooms = [node["room"] for node in nodes]
    total: dict[str, Any] = {}
    for name in ("members", "capacity", "joins", "deliveries", "worker_deaths"):
        total[name] = sum(room[name] for room in rooms)
    for name in ("messages", "bytes", "lag", "longest_recovery"):
        total[name] = max(room[name] for room in rooms)
    for name in ("leaves", "refusals"):
        total[name] = sum((Counter(room[name]) for room in rooms), Counter[str]())
    return total


def _rates(nodes: Sequence[Node], before: Report | None) -> dict[str, float]:
    earlier = {
        node["number"]: node["room"]
        for node in (before["nodes"] if before else ())
        if "error" not in node
    }
    rates = {
        name: [rate(name, node["room"], earlier.get(node["number"])) for node in nodes]
        for name in RATES
    }
    return {
        name: sum(found) if name == "deliveries" else max(found) for name, found in rates.items()
    }


def _row(node: Node) -> dict[str, Any]:
    room, cluster = node["room"], node["cluster"]
    return {name: room.get(name, cluster.get(name)) for name in COLUMNS} | {
        "node": node["node"],
        "up": format_time(room["up"]),
        "engine": "up" if cluster["up"] else "down",
        "round trip": format_round_trip(cluster),
    }
