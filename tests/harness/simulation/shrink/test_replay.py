"""The replay of scripts: it reports the violation of a broken server, and none of a correct one."""

import ast
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from harness.reference import server
from harness.simulation.shrink import replay
from harness.simulation.shrink.reduce import Script
from tests.harness.simulation.recording import CHATROOM, PYTHON, REFERENCE, running

WELCOME = b"Welcome to socket practice"


def coming(count: int) -> Script:
    return [["join", who, f"127.0.0.{who + 2}"] for who in range(count)]


def saying(who: int, count: int, first: int = 0) -> Script:
    return [["say", who, [b"msg%d.%d:One Line" % (who, first + n)]] for n in range(count)]


#: A script with everything that clients do: late joins, cut lines, bad bytes, all ways to leave.
ALL: Script = [
    *coming(4),
    *saying(0, 2),
    ["say", 1, [b"msg1.0:cut \xe4", b"\xbd\xa0 in two"]],
    ["say", 1, [b"msg1.1:\x1b[2J\xff\xff\x85\xe2\x80\xae<127.0.0.9>msg0.0:\r"]],
    ["say", 2, [b"msg2.", b"0:cut in its token, \r", b""]],
    ["leave", 2, "half-close"],
    *saying(3, 5),
    ["leave", 3, "reset"],
    ["join", 4, "127.0.0.4"],
    *saying(4, 1),
    ["leave", 4, "close"],
    ["join", 5, "127.0.0.2"],
    *saying(5, 2),
]


def played(
    command: str,
    script: Script,
    welcome: bytes = WELCOME,
    prefix: bytes = b"",
    notices: Sequence[bytes] = (),
    *,
    hurry: bool = False,
) -> list[str]:
    with running(command) as target:
        host, port = target.address
        return replay.play(host, port, script, welcome, prefix, notices, hurry=hurry)


def kinds(found: list[str]) -> set[str]:
    return {sentence.partition(":")[0] for sentence in found}


@pytest.mark.parametrize("hurry", [False, True])
@pytest.mark.parametrize("command", [REFERENCE, CHATROOM], ids=["reference", "chatroom"])
def test_a_correct_server_shows_no_violation(command: str, hurry: bool) -> None:
    assert played(command, ALL, hurry=hurry) == []


#: Broken servers that `harness.reference` does not have. Some lose, double or swap the second line
#: of a member; similar servers of the reference do so only after many lines.
WRONG = """
import sys
from harness.reference.broken import *
class Loses(Noting):
    def recipients(self, sender):
        return super().recipients(sender)[self.said[sender] == 2:]
class Doubles(Noting):
    def broadcast(self, sender, message):
        super().broadcast(sender, message)
        if self.said[sender] == 2:
            Server.broadcast(self, sender, message)
class Swaps(SwapsNeighbours):
    def broadcast(self, sender, message):
        if self.said[sender] == 1:
            self.said[sender] += 1
            self.held[sender] = message
        else:
            Noting.broadcast(self, sender, message)
            self.release(sender)
class LosesUnwelcomed(Loses):
    greeting = b""
class LateUnwelcomed(LateMember):
    greeting = b""
class RefusesTheThird(Server):
    def accept(self):
        super().accept()
        if len(self.members) == 2:
            self.selector.unregister(self.listener)
            self.listener.close()
NAME(Options(sys.argv[1], int(sys.argv[2]))).run()
"""


def wrong(name: str) -> str:
    return f"{PYTHON} -c {shlex.quote(WRONG.replace('NAME', name))} {{host}} {{port}}"


def broken(name: str) -> str:
    return f"{REFERENCE} --broken {name}"


@pytest.mark.parametrize(
    ("command", "script", "expected"),
    [
        (wrong("Loses"), coming(2) + saying(0, 3), "lost"),
        (broken("late-member"), coming(2) + saying(0, 1), "lost"),
        (wrong("Doubles"), coming(2) + saying(0, 3), "duplicated"),
        (broken("echoes"), coming(2) + saying(0, 1), "echoed"),
        (broken("always-localhost"), coming(2) + saying(0, 1), "misprefixed"),
        (broken("port-in-prefix"), coming(2) + saying(0, 3), "misprefixed"),
        (broken("no-prefix"), coming(2) + saying(0, 1), "misprefixed"),
        (broken("lowercases"), coming(2) + saying(0, 1), "torn"),
        (broken("doubles-lf"), coming(2) + saying(0, 1), "torn"),
        (wrong("Swaps"), coming(2) + saying(0, 4), "misordered"),
        (
            broken("an-order-of-its-own"),
            [*coming(4), *[step for n in range(4) for who in (0, 1) for step in saying(who, 1, n)]],
            "misordered",
        ),
        (
            broken("kicks-bad-bytes"),
            [*coming(2), ["say", 0, [b"msg0.0:\xff."]], ["leave", 0, "close"]],
            "disconnected",
        ),
        (broken("dies-alone"), coming(1) + saying(0, 1), "disconnected"),
        (
            broken("bans-who-comes-back"),
            [*coming(2), *saying(0, 1), ["leave", 0, "close"], ["join", 2, "127.0.0.2"]],
            "disconnected",
        ),
        (broken("no-welcome"), coming(3) + saying(0, 1), "unwelcomed"),
        (broken("no-welcome"), coming(1), "unwelcomed"),
        (broken("keeps-its-side-open"), [*coming(2), ["leave", 0, "half-close"]], "uncleaned"),
        (wrong("RefusesTheThird"), coming(3) + saying(2, 1), "refused"),
    ],
    ids=lambda value: value if isinstance(value, str) and " " not in value else "",
)
def test_a_broken_server_shows_a_violation_of_its_kind(
    command: str, script: Script, expected: str
) -> None:
    assert kinds(played(command, script)) == {expected}


def test_a_message_torn_into_its_pieces_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replay, "MAY_FLUSH", 10)  # on a slow machine, a pause may be longer
    script = [*coming(2), ["say", 0, [b"msg0.0:in", b"two"]]]
    assert kinds(played(broken("impatient"), script)) == {"torn"}


def test_a_hurried_replay_shows_a_late_welcome() -> None:
    late = broken("welcome-late")
    script = coming(3) + saying(0, 3)
    assert played(late, script) == [], "without hurry, no client speaks before all are welcomed"
    assert kinds(played(late, script, hurry=True)) == {"unwelcomed"}


def test_the_last_message_of_a_leaver_must_arrive_unless_it_resets() -> None:
    drops = broken("drops-last-words")
    closes = [*coming(2), ["say", 0, [b"msg0.0:I go"]], ["leave", 0, "close"]]
    assert kinds(played(drops, closes, hurry=True)) == {"lost"}
    resets = [*closes[:-1], ["leave", 0, "reset"]]
    assert played(drops, resets, hurry=True) == []


def test_late_pieces_may_arrive_as_messages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replay, "PAUSE", 0.4)
    assert played(REFERENCE, [*coming(2), ["say", 0, [b"msg0.0:in", b"two"]]]) == []


def test_another_prefix_and_notices_can_be_given() -> None:
    brackets, notices = broken("square-brackets"), broken("greets-everyone")
    script = coming(2) + saying(0, 2)
    assert kinds(played(brackets, script)) == {"misprefixed"}
    assert played(brackets, script, WELCOME, rb"\[[^]\n]*\]") == []
    assert kinds(played(notices, script)) == {"torn"}
    assert played(notices, script, WELCOME, b"", [WELCOME + b"\n"]) == []


def test_the_time_of_a_join_is_unknown_without_a_welcome() -> None:
    script = coming(2) + saying(0, 3)
    assert played(wrong("LateUnwelcomed"), script, b"") == [], (
        "the client may have joined after the first line"
    )
    assert kinds(played(wrong("LosesUnwelcomed"), script, b"")) == {"lost"}


def test_a_refused_connection_is_an_error_and_not_a_violation() -> None:
    with running(REFERENCE) as target:
        where = target.address
    with pytest.raises(ConnectionRefusedError):
        replay.play(*where, coming(2), WELCOME)


def test_the_replay_shows_text_as_the_reference_server_does() -> None:
    assert replay.VISIBLE == server.VISIBLE


def test_the_replay_needs_only_the_standard_library() -> None:
    tree = ast.parse(Path(replay.__file__).read_text())
    used = {
        name
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in (
            [name.name for name in node.names] if isinstance(node, ast.Import) else [node.module]
        )
    }
    assert used
    assert {str(name).partition(".")[0] for name in used} <= sys.stdlib_module_names
