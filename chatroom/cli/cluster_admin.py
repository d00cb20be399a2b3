"""The commands for all nodes of a cluster: `chatroom.admin --cluster`.

A member's id is unique only on its node, so these commands write ID@NODE.
"""

import argparse
import contextlib
import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from chatroom.cli.admin import listed
from chatroom.cli.cluster import Cluster, failed
from chatroom.cli.status import table, tell
from chatroom.config.cluster_url import ClusterURL
from chatroom.protocol.text import printable
from chatroom.system.networks import parse_network
from chatroom.wording import counted

if TYPE_CHECKING:
    from chatroom.sidecars.cluster.requests import RemoteNode

Answers = Sequence[tuple["RemoteNode", Mapping[str, Any]]]
"""Nodes, each with its answer to a request."""

_MEMBER = re.compile(r"(?P<id>[0-9]+)(?:@(?P<node>.+))?")
"""A member's id, with or without its node."""


def run(url: ClusterURL, options: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    """Run the command. If it fails on a node, end the process with exit code 1."""
    who: str = getattr(options, "who", "")
    member = None
    if options.do in ("kick", "ban"):
        member = _MEMBER.fullmatch(who)
        if member and member["node"] is None:
            parser.error(
                f"argument MEMBERS: must be {who}@NODE, not {who}: an id is unique only on its"
                " node; `list` shows both"
            )
    if "who" in options and not member:
        try:
            parse_network(who)
        except ValueError as error:
            parser.exit(1, f"{parser.prog}: {error}\n")
    with contextlib.closing(Cluster(url, options, parser)) as cluster:
        command = _Command(cluster, cluster.nodes(), parser)
        match options.do:
            case "list":
                command.show_members_and_bans()
            case "say":
                command.say(options.text)
            case "unban":
                command.unban(who)
            case "kick":
                command.kick(who, member)
            case "ban":
                command.ban(who, member)


class _Command:
    """A command for all nodes."""

    def __init__(
        self, cluster: Cluster, nodes: "Sequence[RemoteNode]", parser: argparse.ArgumentParser
    ) -> None:
        self._cluster = cluster
        self._nodes = nodes
        self._parser = parser

    def kick(self, who: str, member: re.Match[str] | None) -> None:
        """Kick one member, or all members of all nodes that match an address or network."""
        nodes, which = self._nodes, who
        if member:
            nodes, which = [self._node(member["node"])], member["id"]
        answers = self._cluster.ask(nodes, {"do": "kick", "who": which})
        if not any("error" in answer or answer["kicked"] for _, answer in answers):
            self._fail(f"no member matches {who}")
        self._show(answers, lambda answer: f"kicked: {listed(answer['kicked'])}")

    def ban(self, who: str, member: re.Match[str] | None) -> None:
        """Ban an address or network, or a member's address, on all nodes."""
        nodes, network, answers = self._nodes, who, []
        if member:
            # Only the member's node knows the member's address.
            node = self._node(member["node"])
            answers = self._cluster.ask([node], {"do": "ban", "who": member["id"]})
            [(_, answer)] = answers
            if "error" in answer:
                self._fail(f"{node.name}: {answer['error']}")
            nodes = [other for other in nodes if other != node]
            network = answer["banned"]
        answers += self._cluster.ask(nodes, {"do": "ban", "who": network})
        self._show(
            answers,
            lambda answer: f"banned {answer['banned']}; kicked: {listed(answer['kicked'])}",
        )

    def unban(self, who: str) -> None:
        """Remove a ban on all nodes."""
        answers = self._cluster.ask(self._nodes, {"do": "unban", "who": who})
        if not any("error" in answer or answer["unbanned"] for _, answer in answers):
            self._fail(f"{who} is not banned on any node")

        def result(answer: Mapping[str, Any]) -> str:
            removed = "unbanned" if answer["unbanned"] else "was not banned"
            return f"{removed}; bans: {listed(answer['bans'])}"

        self._show(answers, result)

    def say(self, text: str) -> None:
        """Send a text through one node, which delivers it to the members of all nodes.

        The node is one whose room has just answered another request. If it does not answer this
        request, no other node is tried, because the text may already have been delivered.
        """
        for node in self._nodes:
            [(_, answer)] = self._cluster.ask([node], {"do": "bans"})
            if "error" not in answer:
                [(_, answer)] = self._cluster.ask([node], {"do": "say", "text": text})
                break
        if "error" in answer:
            self._fail(f"{node.name}: {answer['error']}")
        nodes = counted(len(self._nodes), "node")
        tell(f"said to the members of {nodes}, by {node.name}", self._parser)

    def show_members_and_bans(self) -> None:
        """List the members of all nodes, and each node's bans."""
        found = self._cluster.ask(self._nodes, {"ask": "status"})
        reachable = [node for node, answer in found if "error" not in answer]
        bans = dict(self._cluster.ask(reachable, {"do": "bans"}))
        rows = [
            member | {"id": f"{member['id']}@{node.name}"}
            for node, answer in found
            for member in answer.get("members", ())
        ]
        tell("\n".join(table(("id", "address", "port", "worker"), rows)), self._parser)
        self._show(
            [(node, bans.get(node, answer)) for node, answer in found],
            lambda answer: f"bans: {listed(answer['bans'])}",
        )

    def _node(self, name: str) -> "RemoteNode":
        found = [node for node in self._nodes if node.name == name]
        if not found:
            names = ", ".join(node.name for node in self._nodes)
            self._fail(f"there is no node {name}; nodes: {names}")
        return found[0]

    def _show(self, answers: Answers, result: Callable[[Mapping[str, Any]], str]) -> None:
        """Print each node's result, or its error."""
        for node, answer in answers:
            says = answer["error"] if "error" in answer else result(answer)
            tell(f"{node.name}: {says}", self._parser)
        if why := failed(answers):
            self._fail(why)

    def _fail(self, reason: str) -> NoReturn:
        self._parser.exit(1, f"{self._parser.prog}: {printable(reason)}\n")
