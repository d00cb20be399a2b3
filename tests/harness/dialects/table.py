"""The servers in this folder: their profiles, their defects, and the clauses that a defect breaks.

Each server is a separate program, like those that people write as an exercise. It keeps every MUST
clause, in its dialect, unless it is started with `--defect NAME`.
"""

from __future__ import annotations

import shlex
import sys
from dataclasses import dataclass, field
from pathlib import Path

FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class Defect:
    """Clauses that a defect always breaks, and clauses that it breaks in some runs only."""

    breaks: frozenset[str]
    may_break: frozenset[str] = frozenset()


def defect(breaks: str, may_break: str = "") -> Defect:
    return Defect(frozenset(breaks.split()), frozenset(may_break.split()))


@dataclass(frozen=True)
class Dialect:
    """A server in this folder.

    profile: its profile (TOML), as a person would write it, or "" if the harness can't judge
    servers of this kind. lacks: SHOULD clauses that the server breaks without a defect. complaint:
    the error of `probe`, if `probe` can't recognise the dialect.
    """

    name: str
    about: str
    profile: str
    lacks: frozenset[str]
    defects: dict[str, Defect] = field(default_factory=dict)
    complaint: str = ""

    def command(self, defect: str = "") -> str:
        """Return the value of `--command` that starts the server."""
        options = ["--defect", defect] if defect else []
        server = shlex.join([sys.executable, str(FOLDER / f"{self.name}.py")])
        return shlex.join([*shlex.split(server), "{host}", "{port}", *options])


#: SHOULD clauses that all servers break: they relay control characters and invalid UTF-8, and they
#: queue output without a limit or block while they send.
TEXT = frozenset({"TEXT-2", "TEXT-3", "PREFIX-4", "LOAD-2"})

#: SHOULD clauses that servers with blocking sends break.
BLOCKING = TEXT | {"LOAD-1"}

#: SHOULD clauses that servers with blocking sends break if they listen with `socket.create_server`,
#: which rejects ::1 unless its `family` is AF_INET6.
THREADS = BLOCKING | {"JOIN-4"}

_ALL = [
    Dialect(
        "name_prompt",
        "asks for a name: `What is your name? `, and then `anna: hello`",
        r"""
welcome = 'Welcome, \w+!\n'
prefix = '(?P<name>\w+): '
[[login]]
expects = 'What is your name\? '
sends = "{name}"
""",
        THREADS,
        {
            "another-name": defect("PREFIX-2"),
            "asks-in-accept-loop": defect("JOIN-2"),
            "joins-before-name": defect("WELCOME-1"),
            "mixes-up-logins": defect("JOIN-1", "JOIN-2"),
            "skips-empty-lines": defect("LINE-4"),
        },
    ),
    Dialect(
        "name_line",
        "treats the first line as the name, and sends no welcome",
        r"""
prefix = '(?P<name>\w+)> '
[[login]]
expects = ''
sends = "{name}"
""",
        TEXT,
        {
            "loses-one-in-five": defect("CAST-1", "LOAD-3"),
            "no-line-end": defect(
                "LINE-1 LINE-4", "LINE-3 PREFIX-1 PREFIX-2 CAST-1 CAST-3 JOIN-2 LEAVE-1 LOAD-3"
            ),
        },
    ),
    Dialect(
        "crlf_both",
        "ends lines with CR LF, and accepts only lines that end with CR LF",
        r"""
welcome = '220 Welcome to the chat\n'
input_line_end = "CR LF"
output_line_end = "CR LF"
""",
        TEXT,
        {"mixes-order": defect("CAST-4", "WELCOME-1 LOAD-3")},
    ),
    Dialect(
        "crlf_out",
        "sends lines that end with CR LF, and accepts LF and CR LF",
        r"""
welcome = 'Hello\. Type and press Enter\.\n'
output_line_end = "CR LF"
""",
        THREADS,
        {"echoes": defect("CAST-2")},
    ),
    Dialect(
        "crlf_in",
        "accepts only lines that end with CR LF, and sends lines that end with LF",
        r"""
welcome = 'Hello\n'
input_line_end = "CR LF"
""",
        TEXT,
        {"loses-the-last-words": defect("LEAVE-2")},
    ),
    Dialect(
        "echo",
        "sends each line back to its sender, too, with the same prefix",
        r"""
welcome = 'Welcome! You hear what you say\.\n'
echo = '<[\d.]+>'
""",
        THREADS,
        {
            "strips-spaces": defect("CAST-3"),
            "delivers-twice-to-others": defect(
                "CAST-1", "LINE-1 LINE-3 LOAD-1 LOAD-3 LEAVE-2 TEXT-1 LINE-7 CAST-3"
            ),
        },
    ),
    Dialect(
        "echo_you",
        "sends each line back to its sender as `You: hello`, and to the others as `anna: hello`",
        r"""
welcome = 'You can chat now\.\n'
prefix = '(?P<name>\w+): '
echo = 'You: '
[[login]]
expects = 'Enter your nickname:\n'
sends = "{name}"
""",
        TEXT,
        {
            "you-for-all": defect("PREFIX-2"),
            "comes-back-twice": defect("CAST-2"),
            "no-reuse-address": defect("JOIN-3"),
        },
    ),
    Dialect(
        "ip_port",
        "shows the sender's address and port: `192.0.2.7:50123: hello`",
        r"""
welcome = 'Connected as [\d.]+:\d+\n'
prefix = '(?P<ip>[\d.]+):(?P<port>\d+): '
""",
        BLOCKING,
        {
            "another-port": defect("PREFIX-2", "PREFIX-3"),
            "shows-mapped-addresses": defect("PREFIX-3"),
            "drops-all-at-a-reset": defect("JOIN-2 LEAVE-1"),
        },
    ),
    Dialect(
        "login_command",
        "waits for `/login NAME`, and refuses a name that is in use",
        r"""
welcome = 'OK \w+\n'
prefix = '\[(?P<name>\w+)\] '
[[login]]
expects = 'Log in with /login NAME\n'
sends = "/login {name}"
""",
        TEXT,
        {
            "delivers-twice": defect("CAST-1", "LOAD-3"),
            "keeps-names": defect("LEAVE-5"),
        },
    ),
    Dialect(
        "password",
        "asks for a name and for a password",
        r"""
welcome = 'Hello \w+\n'
prefix = '(?P<name>\w+) says: '
[[login]]
expects = 'Name: '
sends = "{name}"
[[login]]
expects = 'Password: '
sends = "sesame"
""",
        THREADS,
        {
            "fails-alone": defect("CAST-7"),
            "keeps-those-who-left": defect("JOIN-2 LEAVE-1"),
            "never-closes": defect("LEAVE-3 LEAVE-4"),
        },
        complaint="; after NAME, secret, the server sent 'Wrong password'",
    ),
    Dialect(
        "notices",
        "announces joins and leaves to the other members",
        r"""
welcome = 'Welcome to the room, \w+\n'
prefix = '<(?P<name>\w+)> '
notices = ['\*\*\* \w+ has (?:joined|left)\n']
[[login]]
expects = 'Please enter your username: '
sends = "{name}"
""",
        TEXT,
        {"welcomes-to-all": defect("WELCOME-2", "WELCOME-1")},
    ),
    Dialect(
        "stamps",
        "writes time stamps, and names in colours",
        r"""
welcome = 'Hi \w+!\n'
prefix = '\[\d\d:\d\d:\d\d\] (?P<name>\w+): '
colours = true
[[login]]
expects = 'Your name\? '
sends = "{name}"
""",
        THREADS,
        {"cuts-at-1000-bytes": defect("LINE-7 TEXT-1")},
    ),
    Dialect(
        "guests",
        "gives each client a name: `guest`, `guest2`",
        r"""
welcome = 'You are guest\d*\n'
prefix = '(?P<name>guest\d*): '
""",
        TEXT,
        {
            "one-name-for-all": defect("PREFIX-2"),
            "names-two-alike": defect("PREFIX-2"),
            "counts-members": defect("PREFIX-2"),
        },
    ),
    Dialect(
        "late",
        "delivers lines of every second client 50 ms late",
        r"""
welcome = 'You are client\d+\n'
prefix = '(?P<name>client\d+): '
""",
        THREADS,
    ),
    Dialect(
        "bell",
        "sends BEL after each text",
        r"""
welcome = 'Hello, \w+! The chat has started\.\n'
prefix = '(?P<name>\w+): '
suffix = '\x07'
[[login]]
expects = "What's your name\\?\n"
sends = "{name}"
""",
        THREADS,
        {"one-per-address": defect("CAST-6")},
    ),
    Dialect(
        "commands",
        "treats lines that begin with `/` as commands, such as `/nick NAME`",
        r"""
welcome = 'Welcome! Commands: /nick NAME, /who, /quit\n'
prefix = '<(?P<name>\w+)> '
commands = "/"
""",
        TEXT,
        {"fifty-members": defect("JOIN-1")},
    ),
    Dialect(
        "recv_framing",
        "treats the bytes of each `recv` as a message",
        r"""
welcome = 'Welcome to the chat\n'
claims = ["LINE-5"]
""",
        THREADS | {"LINE-2", "LINE-3", "LINE-6"},
        {
            "small-buffer": defect("LINE-7", "CAST-1"),
            "decodes-each-recv": defect("LINE-7 TEXT-1", "CAST-1"),
        },
    ),
    Dialect(
        "raw",
        "relays the bytes of each `recv` without a prefix",
        """
prefix = ""
claims = ["LINE-5"]
""",
        THREADS - {"PREFIX-4"} | {"LINE-2", "LINE-3", "LINE-6"},
        {"spins": defect("LEAVE-3 LEAVE-4")},
    ),
    Dialect(
        "length_framing",
        "sends the length of each text before it",
        "",
        frozenset(),
        complaint="the server frames messages by their length (10 decimal digits)",
    ),
    Dialect(
        "nul_framing",
        "expects a NUL after each message",
        "",
        frozenset(),
        complaint="the server expects a NUL after each message",
    ),
    Dialect(
        "fixed_framing",
        "reads messages of 256 bytes",
        "",
        frozenset(),
        complaint="the server reads messages of a fixed size (at most 256 bytes)",
    ),
]

DIALECTS = {dialect.name: dialect for dialect in _ALL}
