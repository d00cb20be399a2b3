"""Kill processes of a cluster at random while a crowd sends lines, and check every byte. Usage:

    python -m tests.integration.cluster_deaths --deaths 500 --nodes 2 --seed 1

A worker, a bridge or a registry of any node is killed, or several of them at once. With `--engine`,
the NATS server is also killed, and started again. Meanwhile members leave and others join. At the
first difference, the program ends with exit code 1.
"""

import argparse
import contextlib
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from itertools import count
from pathlib import Path

from tests.integration.crowd import Crowd
from tests.integration.engines import NOTICES, Engine, engine, node
from tests.integration.rooms import Room, addresses

KINDS = ("worker", "worker", "bridge", "bridge", "registry")
"""Kinds of processes to kill. A kind that is listed twice is killed twice as often."""


class Killer:
    """Kills processes of the nodes while their crowd sends lines."""

    def __init__(self, nats: Engine, nodes: list[Room], options: argparse.Namespace) -> None:
        self._nats = nats
        self._nodes = nodes
        self._options = options
        self._chance = random.Random(options.seed)
        sources = iter(addresses(4 * len(nodes)))
        clients = [here.join(next(sources)) for here in nodes for _ in range(4)]
        # On a busy machine, the NATS server may start so late that members receive the notices.
        self._crowd = Crowd(clients, options.seed, notices=NOTICES)
        self._sources = (f"127.{2 + n // 60_000}.{n // 240 % 250}.{n % 240 + 2}" for n in count())
        self.deaths: Counter[str] = Counter()

    def run(self) -> None:
        began = reported = time.monotonic()
        while self.deaths.total() < self._options.deaths:
            self._crowd.talk_on(self._chance.randrange(1, 40))
            if self._chance.random() < 0.2:
                present = self._crowd.present()
                self._crowd.leave(present[self._chance.randrange(1, len(present))])
                self._crowd.add(self._chance.choice(self._nodes).connect(next(self._sources)))
            for _ in range(self._chance.randrange(1, 30)):
                self._crowd.turn()
            for _ in range(self._chance.choice((1, 1, 1, 2, 3))):
                self._kill()
            if time.monotonic() - reported > 10:
                reported = time.monotonic()
                self._report(began)
        self._crowd.talk_on()
        for here in self._nodes:
            here.stop()
        self._crowd.end()
        self._report(began)

    def _kill(self) -> None:
        kinds = (*KINDS, "engine") if self._options.engine else KINDS
        kind, here = self._chance.choice(kinds), self._chance.choice(self._nodes)
        if kind == "engine":
            self._nats.kill()
            for _ in range(self._chance.randrange(1, 20)):
                self._crowd.turn()
            self._nats.start()
        else:
            found = {
                "worker": lambda: self._chance.choice(here.workers() or [here.bridge()]),
                "bridge": here.bridge,
                "registry": here.registry,
            }[kind]()
            with contextlib.suppress(ProcessLookupError):  # already killed
                os.kill(found.pid, signal.SIGKILL)
        self.deaths[kind] += 1

    def _report(self, began: float) -> None:
        took = time.monotonic() - began
        print(f"{dict(self.deaths)} killed, {self._crowd.lines} lines, {took:.0f} s", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tests.integration.cluster_deaths", description=__doc__
    )
    parser.add_argument("--deaths", type=int, default=500)
    parser.add_argument("--nodes", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--engine", action="store_true", help="also kill the NATS server")
    options = parser.parse_args()
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="cluster-")))
        nats = stack.enter_context(engine(folder))
        nodes = [stack.enter_context(node(nats, logs=".")) for _ in range(options.nodes)]
        try:
            Killer(nats, nodes, options).run()
        except AssertionError as error:
            for here in nodes:
                print(here.errors[-3000:], file=sys.stderr)
                here.kill()
            sys.exit(f"seed {options.seed}: {error}")


if __name__ == "__main__":
    main()
