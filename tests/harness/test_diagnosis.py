"""The diagnosis of failures.

For each pattern, there is a failure that it matches, and a similar failure that it must not match.
"""

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.clauses import all_clauses
from harness.conformance.diagnosis.case import LEAVES
from harness.conformance.diagnosis.crashes import CRASHES
from harness.conformance.diagnosis.diagnose import PATTERNS, diagnose, explain
from harness.conformance.plugin import FAIL, PASS, Result

NOT_RECEIVED = "{} did not receive the expected text"

#: Kinds of events, as in the wire log.
KINDS = ["connects", "sends", "receives", *LEAVES, "is closed by the server"]


def wire(log: str) -> list[tuple[float, str, str, str, int]]:
    r"""Parse a wire log: one event per line, such as `A sends one\n`, with Python's escapes.

    `…400` at the end stands for a long event of 400 bytes, of which the log has only the beginning.
    """
    events = []
    for number, line in enumerate(filter(None, map(str.strip, log.splitlines()))):
        client, rest = line.split(" ", 1)
        what = next(kind for kind in KINDS if rest.startswith(kind))
        text, _, more = rest.removeprefix(what).removeprefix(" ").partition("…")
        data = text.encode("latin-1", "backslashreplace").decode("unicode_escape").encode("latin-1")
        events.append((number / 1000, client, what, data.hex(), int(more or len(data))))
    return events


def failed(
    clause: str,
    log: str,
    detail: str = NOT_RECEIVED.format("B"),
    expected: bytes | None = None,
    actual: bytes | None = None,
    output: str = "",
) -> Result:
    return Result(
        "test_it",
        clause,
        "proved",
        FAIL,
        detail,
        None if expected is None else expected.hex(),
        None if actual is None else actual.hex(),
        output=output,
        wire=wire(log),
    )


THREE = """
A connects 127.0.0.2
B connects 127.0.0.3
C connects 127.0.0.4
A sends first\\n
B receives <127.0.0.2>first\\n
C receives <127.0.0.2>first\\n
"""
"""Wire log of three clients. A has sent a line, which shows its prefix."""

CROWD = "\n".join(f"C{number} connects 127.0.1.{number}" for number in range(40))
SERVED = "\n".join(f"C{number} receives hello" for number in range(20))


@dataclass(frozen=True)
class Trace:
    """A failure that a pattern matches. says: parts of the diagnosis. cause: a part of the cause.
    other: a similar failure that the pattern must not match."""

    failure: Result
    says: tuple[str, ...]
    cause: str
    other: Result


TRACES = {
    "a crowd is too large": Trace(
        failed("JOIN-1", f"{CROWD}\n{SERVED}", "C30 has connected, but does not receive messages"),
        ("40 clients connected; only 20 of them have received anything. C30 received nothing.",),
        "",
        failed("JOIN-2", f"{CROWD}\n{SERVED}", "C30 has connected, but does not receive messages"),
    ),
    "an empty line ends the connection": Trace(
        failed("LINE-4", THREE + "A sends \\n\nA is closed by the server", "an empty line is lost"),
        ("A sent an empty line, and the server closed its connection.",),
        "Only a read that returns no bytes at all is the end",
        failed("LINE-4", THREE + "A sends \\n\nB is closed by the server", "an empty line is lost"),
    ),
    "bad bytes end the connection": Trace(
        failed("TEXT-2", THREE + "A sends x\\xffy\\n\nA is closed by the server", expected=b"x"),
        ('A sent "x\\xffy\\n", which is not UTF-8, and the server closed its connection.',),
        "decode() raises an exception",
        failed("TEXT-2", THREE + "A sends xy\\n\nA is closed by the server", expected=b"x"),
    ),
    "one leave closes all connections": Trace(
        failed(
            "LEAVE-1",
            THREE
            + "C resets\nA sends word\\n\nA is closed by the server\nB is closed by the server",
            expected=b"word",
        ),
        ("C reset its connection; then the server closed the connections of A and B.",),
        "An error while reading from the client that left",
        failed(
            "LEAVE-1",
            THREE
            + "A closes\nB closes\nC closes\nA is closed by the server\nB is closed by the server",
            expected=b"word",
        ),
    ),
    "a connection was closed": Trace(
        failed(
            "LOAD-3",
            THREE + "A sends flood…9000\nA is closed by the server",
            "B did not receive the end of a long text",
            b"last",
        ),
        ('A sent "flood…" (9,000 bytes); then the server closed the connection of A.',),
        "",
        failed(
            "LOAD-3",
            THREE + "A sends flood…9000\nA closes\nA is closed by the server",
            "B did not receive the end of a long text",
            b"last",
        ),
    ),
    "two messages on one line": Trace(
        failed(
            "LINE-6",
            THREE + "A sends begun\nC receives <127.0.0.2>begun\nB sends word\\n\n"
            "C receives <127.0.0.3>word\\n",
            "the unfinished line was not ended",
            b"\n",
            b"<127.0.0.3>",
        ),
        ('C received both on one line: "<127.0.0.2>begun<127.0.0.3>word\\n"',),
        "",
        failed(
            "LINE-6",
            THREE + "A sends begun\nC receives <127.0.0.2>begun\nB sends word\\n\n"
            "C receives \\n<127.0.0.3>word\\n\nA receives \\n<127.0.0.3>word\\n",
            "the sender of the unfinished line received its line end",
            b"",
            b"\n<127.0.0.3>",
        ),
    ),
    "the text came twice": Trace(
        failed(
            "CAST-1",
            THREE + "A sends word\\n\nB receives <127.0.0.2>word\\n<127.0.0.2>word\\n",
            "B received it twice",
            b"word",
        ),
        ('A sent "word\\n" once, and B received it 2 times.',),
        "",
        failed(
            "CAST-1",
            THREE + "A sends word\\nword\\n\nB receives <127.0.0.2>word\\n<127.0.0.2>word\\n",
            "B received it twice",
            b"word",
        ),
    ),
    "a message inside another's line": Trace(
        failed(
            "LINE-2",
            THREE + "A sends hel\nC sends XX\\n\nA sends lo\\n\nB receives helXX\\nlo\\n",
            "a line in pieces did not arrive as one",
            b"hello",
            b"helXX\nlo",
        ),
        ('C\'s message "XX\\n" is inside a line of A, for B: "helXX\\n".',),
        "TCP is a stream",
        failed(
            "LINE-2",
            THREE + "A sends hel\nC sends XX\\n\nA sends lo\\n\nB receives <127.0.0.4>XX\\nhelo\\n",
            "a line in pieces did not arrive as one",
            b"hello",
            b"XX\nhelo",
        ),
    ),
    "a message behind the beginning of another's line": Trace(
        failed(
            "LINE-3",
            THREE
            + "A sends one\\ntwo\\nth\nB receives one\\ntwo\\nth\nC sends XX\\n\nB receives XX\\n",
            "the line of C does not stand alone",
            b"XX\n",
            b"thXX\n",
        ),
        ('C\'s message "XX\\n" arrived behind the beginning of an unfinished line: "thXX\\n".',),
        "TCP is a stream",
        failed(
            "LINE-3",
            THREE + "A sends one\\ntwo\\nth\nC sends XX\\n\nB receives one\\ntwo\\nXX\\nXX\\n",
            "the line of C does not stand alone",
            b"XX\n",
            b"XX\nXX\n",
        ),
    ),
    "the text arrived in pieces": Trace(
        failed(
            "LINE-2",
            THREE + "A sends hel\nA sends lo\\n\nB receives <127.0.0.2>hel<127.0.0.2>lo\\n",
            expected=b"hello",
        ),
        ('A sent one line in 2 pieces, and B received "<127.0.0.2>hel<127.0.0.2>lo\\n"',),
        "TCP is a stream",
        failed(
            "LINE-2",
            THREE + "A sends hel\nA sends lo\\n\nB receives <127.0.0.2>hallo\\n",
            expected=b"hello",
        ),
    ),
    "the line was split": Trace(
        failed(
            "LINE-7",
            THREE + f"A sends {'x' * 256}…300\nB receives <127.0.0.2>{'x' * 200}…322",
            "the line did not arrive whole",
            b"x" * 299,
            b"x" * 200 + b"\n<127.0.0.2>" + b"x" * 99,
        ),
        ("A sent a line of 300 bytes at once. It arrived as 2 messages; the first has 200 bytes.",),
        "treats each read as a message",
        failed(
            "LINE-7",
            THREE + f"A sends {'x' * 256}…300\nB receives <127.0.0.2>{'x' * 200}…322",
            "the line did not arrive whole",
            b"x" * 299,
            b"x" * 200 + b"..." + b"x" * 96,
        ),
    ),
    "the second line has no prefix": Trace(
        failed(
            "LINE-3",
            THREE + "A sends one\\ntwo\\n\nB receives <127.0.0.2>one\\ntwo\\n",
            "not every line has the first line's prefix",
            b"<127.0.0.2>",
            b"<127.0.0.2>one\ntwo\n",
        ),
        (
            'A sent 2 lines at once. B received the first with the prefix "<127.0.0.2>", but "two"'
            " without one.",
        ),
        "TCP is a stream",
        failed(
            "LINE-3",
            THREE + "A sends one\\ntwo\\n\nB receives <127.0.0.2>one\\n<127.0.0.9>two\\n",
            "not every line has the first line's prefix",
            b"<127.0.0.2>",
            b"<127.0.0.2>one\n<127.0.0.9>two\n",
        ),
    ),
    "a control character passes": Trace(
        failed(
            "TEXT-3",
            THREE + "A sends a\\x07b\\n\nB receives <127.0.0.2>a\\x07b\\n",
            "U+0007 was not replaced by its picture",
            "a␇b".encode(),
            b"a\x07b",
        ),
        ("U+0007 arrived as it was.",),
        "passes control characters on",
        failed(
            "TEXT-3",
            THREE + "A sends a\\x07b\\n\nB receives <127.0.0.2>ab\\n",
            "U+0007 was not replaced by its picture",
            "a␇b".encode(),
            b"ab",
        ),
    ),
    "the line was cut": Trace(
        failed(
            "LINE-7",
            THREE + f"A sends {'0123456789' * 25}\\n\nB receives <127.0.0.2>{'0123456789' * 10}\\n",
            "the line did not arrive whole",
        ),
        ("A sent a line of 251 bytes, and B received only its first 100 bytes.",),
        "drops the rest",
        failed(
            "LINE-7",
            THREE + f"A sends {'0123456789' * 25}\\n\nB receives <127.0.0.2>{'0123456789' * 10}\\n"
            f"B receives <127.0.0.2>{'0123456789' * 15}\\n",
            "the line did not arrive whole",
        ),
    ),
    "the beginning was lost": Trace(
        failed(
            "LINE-7",
            THREE + f"A sends {'0123456789' * 25}…9000\nB receives <127.0.0.2>last words\\n",
            "a long line did not arrive as it was sent",
            b"0123456",
            b"",
        ),
        ("A sent 9,000 bytes at once. B received 22 bytes, without the beginning:",),
        "TCP is a stream",
        failed(
            "LINE-7",
            THREE + f"A sends {'0123456789' * 25}…9000\nB receives <127.0.0.2>01234567…9011",
            "a long line did not arrive as it was sent",
            b"0123456",
            b"",
        ),
    ),
    "the line end was lost": Trace(
        failed(
            "LINE-1",
            THREE + "A sends word\\n\nB receives <127.0.0.2>word",
            "the line lost its end",
            b"\n",
            b"",
        ),
        ('A sent "word\\n", with a line end, and B received "<127.0.0.2>word", without one.',),
        "strip, trim",
        failed(
            "LINE-1",
            THREE + "A sends word\\n\nB receives <127.0.0.2>word\\x07\\n",
            "the line lost its end",
            b"\n",
            b"",
        ),
    ),
    "the CR was kept": Trace(
        failed(
            "LINE-1",
            THREE + "A sends word\\r\\n\nB receives <127.0.0.2>word\\xe2\\x90\\x8d\\n",
            "the line lost its end",
            b"\n",
            "␍\n".encode(),
        ),
        ("the CR became text.",),
        "treats the CR as text",
        failed(
            "LINE-1",
            THREE + "A sends word\\r\\n\nB receives <127.0.0.2>word\\r\\n",
            "the line lost its end",
            b"\n",
            b"\r\n",
        ),
    ),
    "the line end was doubled": Trace(
        failed(
            "LINE-1",
            THREE + "A sends word\\n\nB receives <127.0.0.2>word\\n\\n",
            "there is more than a line end",
            b"\n",
            b"\n\n",
        ),
        ("an empty line follows the line.",),
        "still has its own",
        failed(
            "LINE-1",
            THREE + "A sends word\\n\nB receives <127.0.0.2>word\\n",
            "there is more than a line end",
            b"\n",
            b"\n!",
        ),
    ),
    "an echo": Trace(
        failed(
            "CAST-2",
            THREE + "A receives <127.0.0.2>first\\n",
            "A received its own message",
            None,
            b"<127.0.0.2>first\n",
        ),
        ('A sent "first\\n", and received it, too.',),
        "does not leave out the sender",
        failed("CAST-2", THREE, "A received its own message", None, b"<127.0.0.2>first\n"),
    ),
    "the receiver's address": Trace(
        failed(
            "PREFIX-2",
            THREE + "A sends word\\n\nB receives <127.0.0.3>word\\n\nC receives <127.0.0.4>word\\n",
            "the prefix of A is not its address, 127.0.0.2",
            b"127.0.0.2",
            b"<127.0.0.3>",
        ),
        ("with the receiver's own address.",),
        "instead of that of the connection that it has read from",
        failed(
            "PREFIX-2",
            THREE + "A sends word\\n\nB receives <127.0.0.3>word\\n\nC receives <127.0.0.3>word\\n",
            "the prefix of A is not its address, 127.0.0.2",
            b"127.0.0.2",
            b"<127.0.0.3>",
        ),
    ),
    "the latest address": Trace(
        failed(
            "PREFIX-2",
            THREE + "A sends word\\n\nB receives <127.0.0.4>word\\n",
            "the prefix of A is not its address, 127.0.0.2",
            b"127.0.0.2",
            b"<127.0.0.4>",
        ),
        ("with the address of C, the client that connected last.",),
        "one variable for all clients",
        failed(
            "PREFIX-2",
            THREE + "A sends word\\n\nB receives <127.0.0.3>word\\n",
            "the prefix of A is not its address, 127.0.0.2",
            b"127.0.0.2",
            b"<127.0.0.3>",
        ),
    ),
    "another's address": Trace(
        failed(
            "PREFIX-2",
            THREE + "A sends word\\n\nC receives <127.0.0.3>word\\n",
            "the prefix of A is not its address, 127.0.0.2",
            b"127.0.0.2",
            b"<127.0.0.3>",
        ),
        ("with the address of B.",),
        "",
        failed(
            "PREFIX-2",
            THREE + "A sends word\\n\nC receives <127.0.0.33>word\\n",
            "the prefix of A is not its address, 127.0.0.2",
            b"127.0.0.2",
            b"<127.0.0.33>",
        ),
    ),
    "the server's address": Trace(
        failed(
            "PREFIX-2",
            THREE + "A sends word\\n\nC receives <127.0.0.1>word\\n",
            "the prefix of A is not its address, 127.0.0.2",
            b"127.0.0.2",
            b"<127.0.0.1>",
        ),
        ("with the server's own address.",),
        "getsockname",
        failed(
            "PREFIX-2",
            THREE + "A sends word\\n\nC receives <10.0.0.1>word\\n",
            "the prefix of A is not its address, 127.0.0.2",
            b"127.0.0.2",
            b"<10.0.0.1>",
        ),
    ),
    "the port is in the prefix": Trace(
        failed(
            "PREFIX-2",
            THREE + "A sends word\\n\nC receives <127.0.0.2:50123>word\\n",
            "the prefix of A is not its address, 127.0.0.2",
            b"127.0.0.2",
            b"<127.0.0.2:50123>",
        ),
        ("with its sender's port, too.",),
        "",
        failed(
            "PREFIX-2",
            THREE + "A sends word\\n\nC receives <127.0.0.2 anna>word\\n",
            "the prefix of A is not its address, 127.0.0.2",
            b"127.0.0.2",
            b"<127.0.0.2 anna>",
        ),
    ),
    "a known change": Trace(
        failed(
            "TEXT-1",
            THREE + "A sends caf\\xc3\\xa9\\n\nB receives <127.0.0.2>caf\\xc3\\x83\\xc2\\xa9\\n",
            "UTF-8 text arrived changed",
            "café".encode(),
            "cafÃ©".encode(),
        ),
        ('A sent "café", and it arrived as "cafÃ©": its UTF-8 was read as Latin-1.',),
        "wrong encoding",
        failed(
            "TEXT-1",
            THREE + "A sends caf\\xc3\\xa9\\n\nB receives <127.0.0.2>coffee\\n",
            "UTF-8 text arrived changed",
            "café".encode(),
            b"coffee",
        ),
    ),
    "a torn character": Trace(
        failed(
            "TEXT-1",
            THREE + "A sends \\xe2\\x82\\xac!\\xe2\\x82\\xac\\n",
            "UTF-8 text arrived changed",
            "€!€".encode(),
            "€!\ufffd\ufffd".encode(),
        ),
        ("The character €, at byte 4 of the text, arrived as U+FFFD",),
        "a read ended inside the character",
        failed(
            "TEXT-1",
            THREE + "A sends \\xe2\\x82\\xac!\\xe2\\x82\\xac\\n",
            "UTF-8 text arrived changed",
            "€!€".encode(),
            "€\ufffd€".encode(),
        ),
    ),
    "a read with a torn character was dropped": Trace(
        failed(
            "TEXT-1",
            THREE + "A sends second\\xe2\\x82\\xac…2076",
            "B did not receive the end of a long text",
        ),
        ('A sent "second€…" (2,076 bytes), a line with characters of several bytes, and nobody',),
        "a read ends inside a character",
        failed(
            "TEXT-1",
            THREE + "A sends second…2076",
            "B did not receive the end of a long text",
        ),
    ),
    "a command": Trace(
        failed("CAST-3", THREE + "A sends /quit now\\n", expected=b"now"),
        ('A sent "/quit now\\n" as a message, and nobody received anything.',),
        "a command",
        failed("CAST-3", THREE + "A sends quit now\\n", expected=b"now"),
    ),
    "an empty line was dropped": Trace(
        failed("LINE-4", THREE + "A sends \\n", "an empty line was not delivered", b"\n", b""),
        ("A sent an empty line, and nobody received anything.",),
        "does not deliver texts that are empty",
        failed(
            "LINE-4",
            THREE + "A sends \\n\nB receives <127.0.0.2>",
            "an empty line was not delivered",
            b"\n",
            b"<127.0.0.2>",
        ),
    ),
    "the last, unfinished line was dropped": Trace(
        failed(
            "LEAVE-2",
            THREE + "A sends one\\ntwo\nA closes its side\nB receives <127.0.0.2>one\\n",
            expected=b"two",
        ),
        ("The text after the last line end did not arrive.",),
        "delivers only finished lines",
        failed(
            "LEAVE-2",
            THREE + "A sends one\\ntwo\nB receives <127.0.0.2>one\\n",
            expected=b"two",
        ),
    ),
    "the last lines were lost": Trace(
        failed("LEAVE-2", THREE + "A sends one\\ntwo\\n\nA closes its side", expected=b"two"),
        ("and closed its side of the connection. Nothing of it arrived.",),
        "",
        failed("LEAVE-2", THREE + "A sends one\\ntwo\\n", expected=b"two"),
    ),
    "bad bytes were dropped": Trace(
        failed("TEXT-2", THREE + "A sends x\\xffy\\n", expected=b"x"),
        ("which is not UTF-8, and nobody received anything.",),
        "drops the whole text",
        failed("TEXT-2", THREE + "A sends x\\xffy\\n\nB receives ?", expected=b"x"),
    ),
    "an unfinished line waits": Trace(
        failed("LINE-5", THREE + "A sends word", expected=b"word"),
        ('A sent "word" without a line end, and nobody received anything.',),
        "waits for the line end",
        failed("LINE-5", THREE + "A sends word\\n", expected=b"word"),
    ),
    "a message before the welcome": Trace(
        failed(
            "WELCOME-1",
            THREE + "D connects 127.0.0.5\nA sends word\\n\nD receives <127.0.0.2>word\\nWelcome",
            "D received text before the welcome",
            None,
            b"<127.0.0.2>word\nWelcome",
        ),
        ('D received A\'s message "word\\n" before the welcome.',),
        "adds a client to its list before",
        failed(
            "WELCOME-1",
            THREE + "D connects 127.0.0.5\nD receives <127.0.0.2>first\\nWelcome",
            "D received text before the welcome",
            None,
            b"<127.0.0.2>first\nWelcome",
        ),
    ),
    "no welcome": Trace(
        failed("WELCOME-1", THREE + "C receives Hi!\\n", "C was not welcomed", None, b"Hi!\n"),
        ("The profile's `welcome` does not match that.",),
        "",
        failed("WELCOME-1", THREE + "C receives Hi!\\n", "C was welcomed twice", None, b"Hi!\n"),
    ),
    "welcomed, but not yet a member": Trace(
        failed(
            "WELCOME-3",
            THREE + "A sends word\\n\nB receives <127.0.0.2>word\\n",
            "C missed a message after its welcome",
            b"word",
        ),
        ('Then A sent "word\\n", and C did not receive it.',),
        "before it adds the client to its list",
        failed(
            "CAST-1",
            THREE + "A sends word\\n\nB receives <127.0.0.2>word\\n",
            "C missed a message after its welcome",
            b"word",
        ),
    ),
    "the next one was skipped": Trace(
        failed(
            "LEAVE-1",
            THREE
            + "D connects 127.0.0.5\nB closes\nA sends word\\n\nD receives <127.0.0.2>word\\n",
            NOT_RECEIVED.format("C"),
            b"word",
        ),
        (
            'B closed its connection. A sent "word\\n": D received it, but C, which had connected'
            " after B, did not.",
        ),
        "while a loop goes over the list",
        failed(
            "LEAVE-1",
            THREE
            + "D connects 127.0.0.5\nB closes\nA sends word\\n\nC receives <127.0.0.2>word\\n",
            NOT_RECEIVED.format("D"),
            b"word",
        ),
    ),
    "the loop ended": Trace(
        failed(
            "LEAVE-1",
            "E connects 127.0.0.6\n" + THREE + "D connects 127.0.0.5\nB resets\nA sends word\\n\n"
            "E receives <127.0.0.2>word\\n",
            NOT_RECEIVED.format("C"),
            b"word",
        ),
        ("E received it, but C and D, which had connected after B, did not.",),
        "ended the loop over the clients",
        failed(
            "LEAVE-1",
            THREE + "D connects 127.0.0.5\nB resets\nA sends word\\n",
            NOT_RECEIVED.format("C"),
            b"word",
        ),
    ),
    "two clients at one address": Trace(
        failed(
            "CAST-6",
            THREE + "D connects 127.0.0.4\nA sends word\\n\nB receives <127.0.0.2>word\\n",
            "C receives no message of A",
            b"word",
        ),
        ("C shares the address 127.0.0.4 with another client.",),
        "identifies its clients by their addresses",
        failed(
            "CAST-6",
            THREE + "D connects 127.0.0.5\nA sends word\\n\nB receives <127.0.0.2>word\\n",
            "C receives no message of A",
            b"word",
        ),
    ),
    "a silent client blocks": Trace(
        failed(
            "JOIN-2",
            "A connects 127.0.0.2\nA receives hello\nB connects 127.0.0.3\nB sends word\\n",
            "B has connected, but does not receive messages",
            b"word",
        ),
        ("A connected and sent nothing. Since then, the server has sent nothing to B",),
        "waits for input of one client",
        failed(
            "JOIN-2",
            "A connects 127.0.0.2\nA receives hi\nA sends x\\n\nB connects 127.0.0.3\nB sends y\\n",
            "B has connected, but does not receive messages",
            b"word",
        ),
    ),
    "a slow reader blocks": Trace(
        failed("LOAD-1", THREE, "A did not receive the end of a long text", b"word"),
        ("did not reach A, which does read.",),
        "blocks until the send buffer of the client that does not read has space",
        failed("LOAD-1", THREE, "C has connected, but does not receive messages", b"word"),
    ),
    "different orders": Trace(
        failed("CAST-5", THREE, "line 12 of 500 is from D for A, but from C for B"),
        ("A received D's first, but B received C's first.",),
        "one lock, or one queue",
        failed("CAST-5", THREE, "the test did not end within 300 s"),
    ),
    "the end of a long text was lost": Trace(
        failed(
            "LOAD-3",
            THREE + "A sends flood…9000\nB receives flo…4000",
            "B did not receive the end of a long text",
            b"last",
        ),
        ("A sent 9,000 bytes. B received 4,000 bytes since then",),
        "",
        failed("LOAD-3", THREE + "A sends flood…9000\nB receives flo…4000", "it was too fast"),
    ),
    "a line was lost, or came twice": Trace(
        failed(
            "CAST-1",
            THREE,
            "B received line 990 of A's 1200 0 times, instead of once",
            b"other",
        ),
        ('A sent 1,200 lines. B did not receive line 991 of them, "other".',),
        "",
        failed("CAST-1", THREE, "the test did not end within 300 s"),
    ),
    "IPv4 only": Trace(
        failed("JOIN-4", "", "A could not connect: Connection refused"),
        ("accepts no connection there",),
        "AF_INET",
        failed("JOIN-1", "", "A could not connect: Connection refused"),
    ),
    "no connection is closed": Trace(
        failed("LEAVE-4", THREE + "A closes its side", "the server did not close it"),
        ("A closed its side of the connection, and the server did not close its own side.",),
        "does not call close",
        failed(
            "LEAVE-4",
            THREE + "A closes its side\nA is closed by the server",
            "the server did not close it",
        ),
    ),
    "one descriptor for each guest": Trace(
        failed("LEAVE-3", THREE, "after 100 guests, the server has 100 more descriptors"),
        ("That is one for each guest that has left.",),
        "does not call close",
        failed("LEAVE-3", THREE, "after 100 guests, the server has 40 more descriptors"),
    ),
}


def test_every_pattern_has_a_trace() -> None:
    assert {pattern.name for pattern in PATTERNS} == set(TRACES)


@pytest.mark.parametrize("name", TRACES)
def test_a_pattern_matches_its_failure(name: str) -> None:
    trace = TRACES[name]
    found = diagnose(trace.failure)
    assert found.pattern == name, found
    for part in trace.says:
        assert part in found.what
    assert trace.cause in found.cause
    assert bool(found.cause) == bool(trace.cause)


@pytest.mark.parametrize("name", TRACES)
def test_a_pattern_does_not_match_a_similar_failure(name: str) -> None:
    found = diagnose(TRACES[name].other)
    assert found.pattern != name, found
    assert found.what


CHANGED = {
    "in lower case": ("Anna", "anna"),
    "in upper case": ("Anna", "ANNA"),
    "without the spaces around it": ("  a  ", "a"),
    "without the spaces at its beginning": ("  a  ", "a  "),
    "without the spaces at its end": ("  a  ", "  a"),
    "without the white space around it": ("\ta\t", "a"),
    "without the white space at its end": ("\ta\t", "\ta"),
    "with one space for several": ("a  b   c", "a b c"),
    "with one space between its words": ("a \t b", "a b"),
    "with spaces instead of the tab": ("a\tb", "a       b"),
    "with ␉ instead of the tab": ("a\tb", "a␉b"),
    "without its tab": ("a\tb", "ab"),
    "its UTF-8 was read as Latin-1": ("é", "Ã©"),
    "its UTF-8 was read as code page 1252": ("€", "â‚¬"),
    "with U+FFFD for each byte that is not ASCII": ("aéé", "a\ufffd\ufffd\ufffd\ufffd"),
    "with ? for each byte that is not ASCII": ("aé", "a??"),
    "with ? for each character that is not ASCII": ("aé", "a?"),
    "without the characters that are not ASCII": ("aéb", "ab"),
    "with octal escapes": ("é", "\\303\\251"),
    "with escapes for the characters that are not ASCII": ("é", "\\xe9"),
    "as Python shows bytes": ("a", "b'a'"),
    "with HTML's escapes": ("a<b", "a&lt;b"),
    "with composed characters (NFC)": ("e\u0301", "é"),
    "with separate accents (NFD)": ("é", "e\u0301"),
    "without its zero-width joiners": ("👩\u200d👩", "👩👩"),
}


@pytest.mark.parametrize("words", CHANGED)
def test_a_known_change_is_named(words: str) -> None:
    text, came = (part.encode() for part in CHANGED[words])
    log = THREE + "A sends " + "".join(f"\\x{byte:02x}" for byte in text + b"\n")
    found = diagnose(failed("TEXT-1", log, "the text arrived changed", text, came))
    assert found.what.endswith(f": {words}.")


ENDED = "B did not receive the expected text; the server ended (exit status 1); its message: "


@pytest.mark.parametrize("pattern", [pattern for pattern, _ in CRASHES])
def test_the_diagnosis_of_a_crash_has_its_message_and_its_cause(pattern: str) -> None:
    message = pattern.split("|", maxsplit=1)[0].removesuffix(r"\b").replace("[Tt]", "T")
    log = THREE + "C resets\nA sends word\\n\nA is closed by the server"
    found = diagnose(failed("LEAVE-1", log, ENDED + message, b"word"))
    assert (
        found.what == f"The server ended (exit status 1) after C reset its connection: {message}."
    )
    assert found.cause == next(cause for known, cause in CRASHES if known == pattern)


def test_a_crash_with_an_unknown_message_has_no_cause() -> None:
    found = diagnose(failed("LEAVE-1", THREE, ENDED + "KeyError: 'anna'", b"word"))
    assert found.what == "The server ended (exit status 1): KeyError: 'anna'."
    assert found.cause == ""


def test_the_diagnosis_says_that_the_server_does_not_start_again() -> None:
    detail = "the server does not start again: it ended (exit status 1); its last line: no luck"
    found = diagnose(failed("JOIN-3", "", detail))
    assert found.what == "The server does not start again: it ended (exit status 1): no luck."


def test_the_output_s_crash_is_named_if_the_server_closed_a_connection() -> None:
    crash = (
        "Traceback (most recent call last):\n  File 'a'\nBrokenPipeError: [Errno 32] Broken pipe\n"
    )
    log = THREE + "A sends word\\n\nA is closed by the server"
    found = diagnose(failed("CAST-7", log, output=crash))
    assert found.what.endswith(
        "The server's output ends with BrokenPipeError: [Errno 32] Broken pipe."
    )
    assert "Writing to a client that has left" in found.cause
    later = diagnose(failed("CAST-7", log, output=crash + "127.0.0.2 connected\n"))
    assert "Broken" not in later.what + later.cause


def test_a_server_s_cr_lf_and_colours_do_not_hide_a_trace() -> None:
    log = THREE.replace("first\\n\nB", "first\\r\\n\nB").replace("\\n\n", "\\r\\n\n")
    log += "A sends one\\r\\ntwo\\r\\n\nB receives \\x1b[31m<127.0.0.2>\\x1b[0mone\\r\\ntwo\\r\\n"
    found = diagnose(failed("LINE-3", log, "not every line has the first line's prefix"))
    assert found.pattern == "the second line has no prefix"


def test_a_queue_that_is_too_short_for_a_crowd_is_named() -> None:
    detail = (
        "C30 has connected, but does not receive messages; 7 connections did not fit into the"
        " server's queue of new connections"
    )
    found = diagnose(failed("JOIN-1", f"{CROWD}\n{SERVED}", detail))
    assert found.what.endswith("7 connections did not fit into the server's queue.")
    assert "argument of listen" in found.cause


def test_a_slow_reader_may_also_block_the_next_client_that_joins() -> None:
    found = diagnose(failed("LOAD-1", THREE, "B receives no message of A", b"word"))
    assert found.pattern == "a slow reader blocks"
    assert found.what.endswith("and a line did not reach B, which does read.")


def test_only_the_clause_on_last_words_is_about_them() -> None:
    log = THREE + "A sends anna\\n\nA closes its side"
    detail = "after 40 guests, the server has 40 more descriptors"
    assert "Nothing of it arrived" not in diagnose(failed("LEAVE-3", log, detail)).what


def test_pieces_are_found_if_another_s_line_comes_between_them() -> None:
    log = """
    A sends hel
    C receives <127.0.0.2>hel
    B sends word\\n
    C receives <127.0.0.3>word\\n
    A sends lo\\n
    C receives <127.0.0.2>lo\\n
    """
    found = diagnose(failed("LINE-2", THREE + log, expected=b"lo", actual=b"lo"))
    assert found.pattern == "the text arrived in pieces", found
    assert "A sent one line in 2 pieces, and C received" in found.what


def test_a_message_inside_a_line_is_found_behind_several_pieces() -> None:
    log = """
    A sends he
    A sends l
    C sends XX\\n
    A sends lo\\n
    B receives hel
    B receives XX\\nlo\\n
    """
    detail = "a line in pieces did not arrive as one"
    found = diagnose(failed("LINE-2", THREE + log, detail, b"hello", b"helXX\nlo"))
    assert found.pattern == "a message inside another's line", found


def test_two_lines_that_the_server_has_merged_are_not_pieces_of_one() -> None:
    log = """
    D connects 127.0.0.5
    A sends one\\n
    A sends two\\n
    D receives <127.0.0.2>one\\ntwo\\nWelcome
    C receives <127.0.0.2>one\\ntwo\\n<127.0.0.2>three\\n
    """
    actual = b"<127.0.0.2>one\ntwo\nWelcome"
    found = diagnose(
        failed("WELCOME-1", THREE + log, "D received text before the welcome", None, actual)
    )
    assert found.pattern == "a message before the welcome", found


def test_a_failure_of_several_lines_is_about_their_message_and_not_about_a_later_line() -> None:
    log = """
    A sends one\\ntwo\\nth
    B receives <127.0.0.2>one\\ntwo\\nth
    A sends ree\\n
    B receives <127.0.0.2>ree\\n
    """
    actual = b"<127.0.0.2>one\ntwo\nth<127.0.0.2>ree\n"
    detail = "not every line has the first line's prefix"
    found = diagnose(failed("LINE-3", THREE + log, detail, b"<127.0.0.2>", actual))
    assert found.pattern == "the second line has no prefix", found


def test_the_first_message_of_a_split_line_is_not_empty() -> None:
    log = f"A sends {'x' * 256}…300\nB receives <127.0.0.2>{'x' * 200}…322"
    actual = b"<127.0.0.2>" + b"x" * 200 + b"\n<127.0.0.2>" + b"x" * 99
    found = diagnose(failed("CAST-3", THREE + log, "the text arrived changed", b"x" * 299, actual))
    assert "It arrived as 2 messages; the first has 200 bytes." in found.what


@pytest.mark.parametrize(
    ("log", "words"),
    [
        ("C receives <127.0.0.2>word\\n", 'A sent "word\\n"; C received it, but B did not.'),
        (
            "B receives wo\nC receives <127.0.0.2>word\\n",
            'A sent "word\\n"; C received it, but B received "wo".',
        ),
        ("", 'A sent "word\\n"; nobody received anything.'),
        ("B receives huh\nC receives huh", 'A sent "word\\n"; B and C received "huh".'),
    ],
)
def test_a_diagnosis_without_a_pattern_names_what_was_sent_and_received(
    log: str, words: str
) -> None:
    found = diagnose(failed("CAST-1", THREE + "A sends word\\n\n" + log, expected=b"word"))
    assert (found.what, found.cause, found.pattern) == (words, "", "")


def test_a_diagnosis_begins_with_the_detail_of_the_test() -> None:
    found = diagnose(
        failed(
            "PREFIX-1",
            THREE + "A sends word\\n\nB receives [127.0.0.2]word\\n",
            "the prefix is not <IP> right before the text",
            b"<IP>",
            b"[127.0.0.2]",
        )
    )
    assert found.what == (
        "The prefix is not <IP> right before the text."
        ' A sent "word\\n"; B received "[127.0.0.2]word\\n".'
    )


def test_only_failures_are_explained() -> None:
    passed = Result("test_it", "CAST-1", "proved", PASS, "as it is")
    assert explain(passed) is passed
    explained = explain(TRACES["the next one was skipped"].failure)
    assert explained.detail.startswith("B closed its connection.")
    assert explained.cause.startswith("The server removes")
    assert explained.clients == ("C", "A", "B")
    assert explained.around is not None
    assert explained.wire[explained.around][1:3] == ("A", "sends")


texts = st.sampled_from([b"word\n", b"\n", b"", b"a\r\n", b"\xff", b"<A>word", b"w", b"ord\nx"])
events = st.tuples(
    st.floats(0, 1),
    st.sampled_from(["A", "B", "C", "D1"]),
    st.sampled_from([*KINDS, "is reset by the server", "stops reading: flooded"]),
    (texts | st.binary(max_size=20)).map(bytes.hex),
    st.integers(0, 300),
)
details = st.sampled_from(
    sorted({trace.failure.detail for trace in TRACES.values()} | {ENDED + "x", ""})
)


@given(
    st.builds(
        Result,
        st.just("test_it"),
        st.sampled_from([*all_clauses()]),
        st.just("proved"),
        st.just(FAIL),
        details,
        st.none() | texts.map(bytes.hex),
        st.none() | texts.map(bytes.hex),
        wire=st.lists(events, max_size=20),
        output=st.sampled_from(["", "Traceback (most recent call last):\n  x\nE: e"]),
    )
)
def test_any_log_can_be_diagnosed(result: Result) -> None:
    found = diagnose(result)
    assert found.what or not result.detail
    assert "\n" not in found.what
    assert found.around is None or 0 <= found.around < len(result.wire)
