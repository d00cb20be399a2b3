"""The machines that a room needs, computed from its costs. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass

from harness.scale.costs import BRIDGE, ENGINE, Costs
from harness.scale.room import LINE, Setup, play_schedule

HEADERS = 66
"""Bytes of Ethernet, IP and TCP headers for each send."""
RUN = 48
"""Bytes that each line adds to a publication besides its text: the head of its run, and a share of
the headers that several lines have in common."""
PUBLICATION_HEAD = 300
"""Bytes that a publication needs on the network besides its lines: subjects, headers, replies."""
SIMULATED = 3e5
"""Maximum number of publications per second, times the number of nodes. Above it, the simulation
takes too long, so the latency is not simulated."""


@dataclass(frozen=True)
class Machine:
    """A node's machine, and the share of it that the room may use.

    network: bytes per second. used: share of each core, of the memory and of the network that the
    room may use. delay: seconds from a node to the engine, one way. socket: bytes of the kernel's
    memory for a connection.
    """

    cores: int = 16
    memory: float = 64 * 2**30
    network: float = 10e9 / 8
    used: float = 0.7
    delay: float = 100e-6
    socket: float = 4096
    base: float = 150 * 2**20
    """Bytes of memory of a node without members."""

    @property
    def workers(self) -> int:
        """Number of workers of a node. Two cores are left for the bridge, the kernel and other
        processes."""
        return max(1, self.cores - 2)


@dataclass(frozen=True)
class Order:
    """The work of the bridges and the engine that gives all lines one order, at some rate of lines.

    publications: number per second, of all nodes. bridge, engine: number of cores that a bridge and
    the engine use. network: bytes per second that the engine sends. limit: name of the resource
    with the highest share in use. possible: False if this share is too high.
    """

    publications: float
    bridge: float
    engine: float
    network: float
    limit: str
    possible: bool

    @classmethod
    def of(cls, costs: Costs, machine: Machine, nodes: int, rate: float) -> Order:
        if nodes < 2:
            return cls(0.0, 0.0, 0.0, 0.0, "", True)
        total = publications(costs, machine, nodes, rate)
        counts = {
            "publish": total / nodes,
            "follow": total,
            "relay": rate,
            "store": total,
            "push": total * nodes,
            "engine_byte": rate * (LINE + RUN) * (1 + nodes),
        }
        bridge, engine = costs.of(counts, BRIDGE), costs.of(counts, ENGINE)
        network = nodes * (rate * (LINE + RUN) + total * PUBLICATION_HEAD)
        uses = {
            "bridge": bridge,
            "engine's order": total * costs.store + rate * (LINE + RUN) * costs.engine_byte,
            "engine's cores": engine / machine.cores,
            "engine's network": network / machine.network,
        }
        limit = max(uses, key=lambda name: uses[name])
        return cls(total, bridge, engine, network, limit, uses[limit] <= machine.used)


@dataclass(frozen=True)
class Need:
    """The machines that a room needs.

    rate: lines per second. limit: name of the resource that determines the number of nodes; if the
    room is impossible, of the resource that it lacks. worker: share of a core that a worker uses.
    memory: bytes of a node. network: bytes per second of a node. p99: latency in seconds; None if
    it was not simulated. late: True if the simulated latency exceeds the one that was asked for.
    """

    members: int
    rate: float
    nodes: int
    limit: str
    worker: float
    memory: float
    network: float
    order: Order
    p99: float | None = None
    late: bool = False


def publications(costs: Costs, machine: Machine, nodes: int, rate: float) -> float:
    """Return the publications per second of all nodes. A node has at most one under way."""
    if nodes < 2:
        return 0.0
    trip = costs.publish + costs.store + costs.push + costs.follow + 2 * machine.delay
    return nodes / (trip + nodes / rate)


def turn(costs: Costs, members: float, lines: float) -> float:
    """Return the duration (s) of a turn in which a worker sends `lines` to `members`."""
    return members * (costs.send + lines * LINE * costs.byte)


def need(
    costs: Costs, machine: Machine, members: int, rate: float, memory: float, within: float
) -> Need:
    """Return the machines for `rate` lines per second, with a p99 latency of at most `within` s.

    `memory`: bytes of the server's memory for each member. A line waits for at most one turn, and
    is sent in the next turn. So a turn may take half of `within`. The path through the engine is
    not counted here; only the simulation shows it, and sets `late` if the latency is too high.
    """
    used, half = machine.used, within / 2
    per_member = memory + machine.socket
    sends = min(rate, 1 / half)
    traffic = rate * LINE + sends * HEADERS
    limits = {
        "cores": machine.workers * used * half / turn(costs, 1, max(1.0, rate * half)),
        "network": used * machine.network / traffic,
        "memory": (used * machine.memory - machine.base) / per_member,
    }
    limit = min(limits, key=lambda name: limits[name])
    nodes = max(1, math.ceil(members / limits[limit]))
    share = members / nodes
    order = Order.of(costs, machine, nodes, rate)
    busy = turn(costs, share / machine.workers, max(1.0, rate * half)) * sends
    p99 = None
    if order.possible and order.publications * nodes <= SIMULATED:
        p99 = _p99(costs, machine, members, rate, nodes)
    return Need(
        members,
        rate,
        nodes,
        limit if order.possible else order.limit,
        busy,
        machine.base + share * per_member,
        share * traffic,
        order,
        p99,
        p99 is not None and p99 > within,
    )


def highest_rate(costs: Costs, machine: Machine, nodes: int) -> tuple[float, str]:
    """Return the highest rate at which all lines can have one order, and what limits it.

    The rate is in lines per second; the limit is the name of a resource.
    """
    low, high = 1.0, 1e9
    while high > 1.01 * low:
        middle = math.sqrt(low * high)
        if Order.of(costs, machine, nodes, middle).possible:
            low = middle
        else:
            high = middle
    return low, Order.of(costs, machine, nodes, high).limit


def _p99(costs: Costs, machine: Machine, members: int, rate: float, nodes: int) -> float:
    """Simulate the room for at least 200 lines; return the p99 latency."""
    setup = Setup(members, nodes if nodes > 1 else 0, machine.workers, None, machine.delay)
    seconds = min(20.0, max(1.0, 200 / rate))
    return play_schedule(setup, costs, rate, seconds, is_bench=False).latency(0.99)
