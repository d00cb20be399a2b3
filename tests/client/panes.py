"""The real client in a pane of a real tmux, a terminal whose screen can be read.

Each pane has its own tmux server, and a folder for the server's socket; both are removed after the
test. One tmux client, in control mode, sends all commands, and reports when the screen may have
changed. So no test polls the screen, and no command starts a process.
"""

import os
import re
import select
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.client.drivers import CLIENT, ROOT
from tests.integration.waiting import PATIENCE
from tests.programs import program

CONFIGURATION = """
set -g status off
set -g escape-time 0
set -g default-terminal screen-256color
"""

#: Environment that makes the client's output the same on every machine.
ALIKE = {"NO_COLOR": "", "TZ": "UTC0"}

# tmux 3.3a sometimes does not notice that a pane's process has ended. So the shell writes the exit
# code to a pipe and then executes `cat`, which keeps the screen.
SHELL = ["sh", "-c", 'code=$1; shift; "$@"; echo $? >"$code"; exec cat', "sh"]

#: Beginnings of the last line of an answer, in control mode.
ANSWERED = (b"%end ", b"%error ")


class Pane:
    """A screen of `columns` by `rows` cells that shows the client."""

    def __init__(self, folder: Path, columns: int, rows: int, command: list[str]) -> None:
        (folder / "conf").write_text(CONFIGURATION)
        code = folder / "code"
        os.mkfifo(code)
        # Without a writer, the pipe would be readable (end of file) at once. So open it with
        # O_RDWR.
        self._code = os.open(code, os.O_RDWR)
        tmux = [program("tmux"), "-C", "-u", "-f", str(folder / "conf"), "-S", str(folder / "tmux")]
        started = ["new-session", "-x", str(columns), "-y", str(rows), "-c", str(ROOT)]
        self._control = subprocess.Popen(
            [*tmux, *started, *SHELL, str(code), *command],
            env={name: value for name, value in os.environ.items() if name != "TMUX"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self._unread = b""
        self._reports = 0
        """Number of lines from tmux outside the answers to commands."""
        # Until this tmux client is attached to its session, commands fail: "no current target".
        deadline = time.monotonic() + PATIENCE
        while not self._line(deadline).startswith(b"%session-changed "):
            pass
        self._server = os.pidfd_open(int(self.run("display-message", "-p", "#{pid}")))

    def run(self, *arguments: str) -> str:
        """Give tmux a command and return its answer."""
        assert self._control.stdin is not None
        self._control.stdin.write(" ".join(map(quote, arguments)).encode() + b"\n")
        self._control.stdin.flush()
        deadline = time.monotonic() + PATIENCE
        # A line "%begin" with the flag 1 starts the answer to a command of this client. The command
        # that started tmux has no such flag.
        while not re.fullmatch(rb"%begin \d+ \d+ 1", self._line(deadline)):
            self._reports += 1
        answer = []
        while not (line := self._line(deadline)).startswith(ANSWERED):
            answer.append(line.decode() + "\n")
        assert line.startswith(b"%end "), "".join(answer)
        return "".join(answer)

    def _line(self, deadline: float) -> bytes:
        """Return the next line that tmux writes."""
        assert self._control.stdout is not None
        while b"\n" not in self._unread:
            left = max(0, deadline - time.monotonic())
            ready, _, _ = select.select([self._control.stdout], [], [], left)
            assert ready, f"tmux writes nothing more after {self._unread!r}"
            data = os.read(self._control.stdout.fileno(), 1 << 16)
            assert data, "tmux has ended"
            self._unread += data
        line, _, self._unread = self._unread.partition(b"\n")
        return line

    # --- what the user does -------------------------------------------------------------------

    def type(self, text: str) -> None:
        self.run("send-keys", "-l", text)

    def press(self, *keys: str) -> None:
        """Press keys, given by tmux's names, such as Enter and C-c."""
        self.run("send-keys", *keys)

    def paste(self, text: str) -> None:
        """Paste text, as a bracketed paste if the program has enabled that mode."""
        self.run("set-buffer", text)
        self.run("paste-buffer", "-p")

    def resize(self, columns: int, rows: int) -> None:
        self.run("resize-window", "-x", str(columns), "-y", str(rows))

    # --- what the user sees -------------------------------------------------------------------

    @property
    def rows(self) -> list[str]:
        """Rows from the top to the bottom, without trailing blanks."""
        return [row.rstrip() for row in self.run("capture-pane", "-p").split("\n")[:-1]]

    @property
    def colours(self) -> str:
        """Text of the screen with its escape sequences, which set the colours."""
        return self.run("capture-pane", "-e", "-p")

    @property
    def said(self) -> list[str]:
        """Rows above the status row, without blank rows at the top."""
        rows = self.rows
        status = next((i for i, row in enumerate(rows) if self._is_status(row)), len(rows))
        return "\n".join(rows[:status]).strip("\n").split("\n")

    @property
    def status(self) -> str:
        return next((row for row in self.rows if self._is_status(row)), "")

    @property
    def typed(self) -> str:
        """Rows below the status row, which contain the typed line."""
        rows = self.rows
        status = next((i for i, row in enumerate(rows) if self._is_status(row)), len(rows))
        return "\n".join(rows[status + 1 :]).rstrip("\n")

    @property
    def cursor(self) -> int:
        """Column of the cursor."""
        return int(self.run("display-message", "-p", "#{cursor_x}"))

    @staticmethod
    def _is_status(row: str) -> bool:
        return len(row) > 1 and row[0] == " " != row[1]

    def wait(self, done: Callable[[], bool], what: str = "the expected screen") -> None:
        """Read the screen each time that it may have changed, until `done` returns True."""
        deadline = time.monotonic() + PATIENCE
        while True:
            reports = self._reports
            if done():
                return
            try:
                while self._reports == reports:
                    self._line(deadline)
                    self._reports += 1
            except AssertionError as error:
                screen = "\n".join(self.rows)
                raise AssertionError(f"not seen: {what}; {error}; the screen:\n{screen}") from None

    def shows(self, *rows: str) -> None:
        """Wait until these are the last rows of the conversation."""
        self.wait(lambda: self.said[-len(rows) :] == list(rows), f"it says {rows}")

    def has_typed(self, text: str) -> None:
        self.wait(lambda: self.typed == f"<You>{text}", f"<You>{text}")

    def end(self) -> int:
        """Wait until the client has ended; return its exit code."""
        ready, _, _ = select.select([self._code], [], [], PATIENCE)
        if not ready:
            screen = "\n".join(self.rows)
            raise AssertionError(f"the client does not end; the screen:\n{screen}")
        return int(os.read(self._code, 10))

    @property
    def left(self) -> list[str]:
        """Rows that stay on the screen after the client's end."""
        return "\n".join(self.rows).strip("\n").split("\n")

    @property
    def client(self) -> int:
        """Process id of the client."""
        shell = int(self.run("display-message", "-p", "#{pane_pid}"))
        return int(Path(f"/proc/{shell}/task/{shell}/children").read_text())

    def close(self) -> None:
        try:
            self.run("kill-server")
            # A pidfd is readable once its process has ended, even if init has not reaped the
            # process yet.
            assert select.select([self._server], [], [], PATIENCE)[0], "tmux does not end"
        finally:
            os.close(self._server)
            os.close(self._code)
            with self._control as control:
                control.kill()


def quote(argument: str) -> str:
    """Quote an argument for tmux, on one line."""
    special = re.compile(r'[\x00-\x1f"$\\\x7f]')
    return '"' + special.sub(lambda found: f"\\{ord(found[0]):03o}", argument) + '"'


@contextmanager
def pane(
    *arguments: str, columns: int = 60, rows: int = 12, env: dict[str, str] | None = None
) -> Iterator[Pane]:
    # In pytest's folder, the path of the socket would be too long.
    with tempfile.TemporaryDirectory(prefix="tmux-") as folder:
        command = ["env", *(f"{name}={value}" for name, value in (ALIKE | (env or {})).items())]
        here = Pane(Path(folder), columns, rows, [*command, *CLIENT, *arguments])
        try:
            yield here
        finally:
            here.close()
