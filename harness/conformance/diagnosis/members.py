"""Patterns of members that receive nothing, or too much."""

from __future__ import annotations

import re
from collections.abc import Callable

from harness.conformance.diagnosis.case import LEAVES, Case
from harness.conformance.diagnosis.pattern import pattern
from harness.wording import as_text, counted, listed, quoted


@pattern(
    "an echo", "The server sends a message to all its clients, and does not leave out the sender."
)
def echo(case: Case) -> str:
    if case.clause != "CAST-2" or "received its own message" not in case.detail:
        return ""
    for message in reversed(case.messages):
        line = message.lines[0] if message.lines else b""
        heard = case.heard(message.speaker, message.first)
        if len(line) > 3 and line in heard:
            return f"{message.speaker} sent {quoted(message.text)}, and received it, too."
    return ""


@pattern(
    "a message before the welcome",
    "The server adds a client to its list before it has sent the welcome to it.",
)
def before_the_welcome(case: Case) -> str:
    found = re.match(r"(?P<name>[A-Z]\d*) received text before the welcome", case.detail)
    for message in reversed(case.messages if found else []):
        line = message.lines[0] if message.lines else b""
        if not (found and line and line in case.actual):
            continue
        begun = next((n for n, e in enumerate(case.events) if e.client == found["name"]), 0)
        if any(line in e.data for e in case.events[message.last + 1 : begun]):
            return ""  # the message was delivered earlier, so the server repeats old messages
        return (
            f"{found['name']} received {message.speaker}'s message {quoted(message.text)} before"
            " the welcome."
        )
    return ""


@pattern("no welcome")
def not_welcomed(case: Case) -> str:
    found = re.match(r"(?P<name>[A-Z]\d*) was not welcomed", case.detail)
    if not found:
        return ""
    heard = case.heard(found["name"], 0)
    if not heard:
        return f"{found['name']} connected, and received nothing."
    return (
        f"{found['name']} connected, and received {quoted(heard)}. The profile's `welcome` does not"
        " match that."
    )


@pattern(
    "welcomed, but not yet a member",
    "The server sends the welcome before it adds the client to its list.",
)
def not_yet_a_member(case: Case) -> str:
    if case.clause != "WELCOME-3" or "missed" not in case.detail or not case.message:
        return ""
    return (
        f"{case.listener} had received the whole welcome. Then {case.message.speaker} sent"
        f" {quoted(case.message.text)}, and {case.listener} did not receive it."
    )


@pattern(
    "the next one was skipped",
    "The server removes a client from its list while a loop goes over the list, so the loop"
    " skips the next client. Let the loop go over a copy of the list.",
)
def next_is_skipped(case: Case) -> str:
    """Match if a client left, and only the next client in the order of connection did not receive
    the message."""
    return _missed_around_a_leave(case, lambda missed, behind: missed == behind[:1] != behind)


@pattern(
    "the loop ended",
    "An error while sending to the client that left ended the loop over the clients. Handle the"
    " error for each client.",
)
def loop_ended(case: Case) -> str:
    """Match if a client left, and exactly the clients that had connected after it did not receive
    the message."""
    return _missed_around_a_leave(case, lambda missed, behind: missed == behind != behind[:1])


def _missed_around_a_leave(case: Case, fits: Callable[[list[str], list[str]], bool]) -> str:
    message, leaver = case.message, case.leaver
    if not (message and leaver and case.listener and case.expected in message.text):
        return ""
    order = [*case.address]
    others = [client for client in case.received if client != leaver.client]
    missed = [client for client in others if case.expected not in case.received[client]]
    behind = [client for client in others if order.index(client) > order.index(leaver.client)]
    if not (fits(missed, behind) and len(missed) < len(others)):
        return ""
    got = [client for client in others if client not in missed]
    return (
        f"{leaver.client} {LEAVES[leaver.what]}. {message.speaker} sent {quoted(message.text)}:"
        f" {listed(got)} received it, but {listed(missed)}, which had connected after"
        f" {leaver.client}, did not."
    )


@pattern(
    "two clients at one address",
    "The server identifies its clients by their addresses. But two connections may come from one"
    " address.",
)
def same_address(case: Case) -> str:
    message = case.message
    if not (message and case.listener and case.listener in case.address and case.expected):
        return ""
    shared = case.address[case.listener]
    same = [client for client in case.received if case.address[client] == shared]
    got = [c for c, heard in case.received.items() if case.expected in heard]
    together = shared == case.address[message.speaker] or len(same) > 1
    if together and case.listener not in got and got:
        return (
            f"{message.speaker} sent {quoted(message.text)}: {listed(got)} received it,"
            f" {case.listener} did not. {case.listener} shares the address"
            f" {as_text(shared)} with another client."
        )
    return ""


@pattern(
    "a silent client blocks", "The server waits for input of one client before it serves the next."
)
def blocked_by_a_silent_client(case: Case) -> str:
    """Match if all clients that connected after a silent client have received nothing."""
    if case.clause not in ("JOIN-1", "JOIN-2") or not case.message:
        return ""
    deaf = [c for c in case.address if not case.heard(c, 0)]
    first = next(iter(deaf), "")
    order = [*case.address]
    if not first or set(order[order.index(first) :]) - {*deaf}:
        return ""
    silent = [
        client
        for client in order[: order.index(first)]
        if not any(e.client == client and e.what == "sends" for e in case.events)
    ]
    if silent and silent[-1] == order[order.index(first) - 1]:
        return (
            f"{silent[-1]} connected and sent nothing. Since then, the server has sent nothing to"
            f" {listed(deaf)}, not even a welcome."
        )
    return ""


@pattern("a crowd is too large")
def crowd(case: Case) -> str | tuple[str, str]:
    """Match if the server serves only some of many clients."""
    if case.clause != "JOIN-1" or not case.listener:
        return ""
    closed = [e.client for e in case.events if e.what.endswith("by the server")]
    served = [c for c in case.address if case.heard(c, 0) and c not in closed]
    if len(served) < 10 or len(served) == len(case.address):
        return ""
    heard = case.heard(case.listener, 0)
    end = ", and its connection was closed" if case.listener in closed else ""
    what = (
        f"{counted(len(case.address), 'client')} connected; only {len(served)} of them have"
        f" received anything. {case.listener} received {quoted(heard) if heard else 'nothing'}"
        f"{end}."
    )
    lost = re.search(r"\d+ connections? did not fit into the server's queue", case.detail)
    if lost:
        return (
            f"{what} {lost[0]}.",
            "The argument of listen is the number of connections that may wait until the server"
            " accepts them. More clients than this connected at once.",
        )
    return what


@pattern(
    "a slow reader blocks",
    "The server's send blocks until the send buffer of the client that does not read has space"
    " again. Meanwhile, the server serves no other client.",
)
def blocked_by_a_slow_reader(case: Case) -> str:
    """Match if another member receives nothing more after one member has stopped reading."""
    if case.clause not in ("LOAD-1", "LOAD-2"):
        return ""
    if "did not receive the end" in case.detail:
        what = "the end of the text did not reach"
    elif re.match(r"[A-Z]\d* receives no message of", case.detail):
        what = "a line did not reach"
    else:
        return ""
    return (
        f"One member stopped reading. Then other members sent text, and {what} {case.listener},"
        " which does read."
    )


@pattern("a line was lost, or came twice")
def not_once(case: Case) -> str:
    found = re.match(
        r"(\w+) received line (\d+) of (\w+)'s (\d+) (\d+) times, instead of once", case.detail
    )
    if not found:
        return ""
    listener, number, speaker, count, times = found.groups()
    how = "did not receive" if times == "0" else f"received {times} times"
    return (
        f"{speaker} sent {int(count):,} lines. {listener} {how} line {int(number) + 1:,} of them,"
        f" {quoted(case.expected)}."
    )


@pattern(
    "IPv4 only", "The server opens an IPv4 socket (AF_INET), even if its host is an IPv6 address."
)
def not_on_ipv6(case: Case) -> str:
    if case.clause == "JOIN-4" and "could not connect" in case.detail:
        return "The server was started with the host ::1, but accepts no connection there."
    return ""


@pattern(
    "different orders",
    "A thread for each client sends to all others, and the threads may overtake each other. Use one"
    " lock, or one queue.",
)
def different_orders(case: Case) -> str:
    found = re.match(
        r"line \d+ of \d+ is from (\w+) for (\w+), but from (\w+) for (\w+)", case.detail
    )
    if not found:
        return ""
    one, first, other, second = found.groups()
    return (
        f"{one} and {other} sent messages at the same time. {first} received {one}'s first, but"
        f" {second} received {other}'s first."
    )
