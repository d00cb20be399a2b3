"""The options of chatroom.status and chatroom.admin for a cluster, and the connection to it.

asyncio and nats-py are imported only if a cluster is chosen.
"""

import argparse
import os
from collections.abc import Awaitable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from chatroom.arguments import argument_type, path
from chatroom.config.cluster_url import ClusterURL
from chatroom.wording import counted

if TYPE_CHECKING:
    from chatroom.sidecars.cluster.requests import RemoteNode

T = TypeVar("T")

# The server has the same variables.
URL = "CHATROOM_CLUSTER"
CREDENTIALS = "CHATROOM_CLUSTER_CREDENTIALS"
CA = "CHATROOM_CLUSTER_CA"

ATTEMPTS = 1
"""Number of times that nats-py retries a server that it can't reach."""


def add_cluster(parser: argparse.ArgumentParser) -> None:
    """Add the options that choose a cluster."""
    parser.add_argument(
        "--cluster",
        type=argument_type(ClusterURL.parse),
        metavar="URL",
        help="use all nodes of this cluster instead of a local room; URL is"
        " nats://HOST:PORT/ROOM or tls://HOST:PORT/ROOM, as for the server; needs"
        f" chatroom[cluster] (default: the variable {URL}, if neither --room nor --run-dir is"
        " given)",
    )
    parser.add_argument(
        "--cluster-credentials",
        type=argument_type(path),
        metavar="FILE",
        help=f"credentials file for the NATS servers (default: the variable {CREDENTIALS})",
    )
    parser.add_argument(
        "--cluster-ca",
        type=argument_type(path),
        metavar="FILE",
        help="certificate authorities (PEM) for tls:// (default: the variable"
        f" {CA}, or those of the system)",
    )


def chosen_cluster(
    options: argparse.Namespace, parser: argparse.ArgumentParser
) -> ClusterURL | None:
    """Return the URL from the options or from the variable; None if a local room is chosen.

    If an option or the variable is wrong, end the process with exit code 2.
    """
    is_local = options.room is not None or options.run_dir is not None
    url: ClusterURL | None = options.cluster
    if url is not None and is_local:
        local = "--room" if options.room is not None else "--run-dir"
        parser.error(f"{local} chooses a local room, and --cluster all nodes: give only one")
    if url is None and not is_local and os.environ.get(URL):
        try:
            url = ClusterURL.parse(os.environ[URL])
        except ValueError as error:
            parser.error(f"{URL}: must be {error}")
    if url is None and (options.cluster_credentials or options.cluster_ca):
        parser.error("--cluster-credentials and --cluster-ca need --cluster")
    return url


class Cluster:
    """A connection to the NATS servers of a cluster.

    If a method fails, it prints one line and ends the process with exit code 1.
    """

    def __init__(
        self, url: ClusterURL, options: argparse.Namespace, parser: argparse.ArgumentParser
    ) -> None:
        self.url = url
        self._parser = parser
        if find_spec("nats") is None:
            self._fail("--cluster needs nats-py: pip install 'chatroom[cluster]'")
        import asyncio
        import logging

        from chatroom.sidecars.cluster.engine import EngineError, connect
        from chatroom.sidecars.cluster.process import Credentials

        credentials = Credentials(
            options.cluster_credentials or _file(CREDENTIALS), options.cluster_ca or _file(CA)
        )
        # asyncio logs a warning when a TLS connection ends. `_fail` prints the reason instead.
        logging.getLogger("asyncio").setLevel(logging.CRITICAL)
        self._runner = asyncio.Runner()
        try:
            self._client = self._runner.run(
                connect(url, credentials, parser.prog, attempts=ATTEMPTS)
            )
        except EngineError as error:
            self._runner.close()
            self._fail(str(error))

    def close(self) -> None:
        """Close the connection."""
        self._runner.run(self._client.close())
        self._runner.close()

    def nodes(self) -> "list[RemoteNode]":
        """Return the nodes that reply, sorted by their names. There is at least one."""
        from chatroom.sidecars.cluster.engine import missing_permission
        from chatroom.sidecars.cluster.requests import find_nodes

        nodes = self._run(find_nodes(self._client, self.url.room))
        if not nodes:
            if not self._client.is_connected:
                self._fail(f"the connection to {self.url} is lost")
            if reason := missing_permission(self._client):
                self._fail(f"{self.url}: {reason}")
            self._fail(f"no node of the room {self.url.room} answers at {self.url}")
        return nodes

    def ask(
        self, nodes: "Sequence[RemoteNode]", request: Mapping[str, Any]
    ) -> "list[tuple[RemoteNode, dict[str, Any]]]":
        """Send a request to all these nodes at the same time; return each node with its answer.

        The answer is {"error": reason} if the node does not answer.
        """
        import asyncio

        from chatroom.sidecars.cluster.requests import ask

        async def ask_all() -> list[dict[str, Any]]:
            room = self.url.room
            return await asyncio.gather(
                *(ask(self._client, room, node, dict(request)) for node in nodes)
            )

        return list(zip(nodes, self._run(ask_all()), strict=True))

    def sleep(self, seconds: float) -> None:
        """Wait, and keep the connection alive."""
        import asyncio

        self._run(asyncio.sleep(seconds))

    def _run(self, waits: Awaitable[T]) -> T:
        from chatroom.sidecars.cluster.engine import UNREACHABLE

        async def run() -> T:
            return await waits

        try:
            return self._runner.run(run())
        except UNREACHABLE:
            self._fail(f"the connection to {self.url} is lost")

    def _fail(self, reason: str) -> NoReturn:
        self._parser.exit(1, f"{self._parser.prog}: {reason}\n")


def failed(answers: Sequence[tuple[object, Mapping[str, Any]]]) -> str:
    """Return a text that says how many of the nodes failed; empty if none did."""
    number = sum("error" in answer for _, answer in answers)
    return f"failed on {number} of {counted(len(answers), 'node')}" if number else ""


def _file(variable: str) -> Path | None:
    return Path(os.environ[variable]) if os.environ.get(variable) else None
