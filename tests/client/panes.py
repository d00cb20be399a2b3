"""The real client in a pane of a real tmux, which is a terminal that can be looked at.

Each pane has a tmux server of its own, with a socket in a folder of its own; both are gone when the
test is over. tmux tells nobody when a screen changes, so it is looked at until it is as it should.
"""

import os
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.client.drivers import CLIENT, ROOT
from tests.integration.waiting import PATIENCE, until
from tests.programs import program

CONFIGURATION = """
set -g status off
set -g escape-time 0
set -g default-terminal screen-256color
"""

#: What is so on every machine.
ALIKE = {"NO_COLOR": "", "TZ": "UTC0"}

# tmux 3.3a sometimes never learns that what it started has ended; and the screen is to stay.
SHELL = ["sh", "-c", 'code=$1; shift; "$@"; echo $? >"$code"; exec cat', "sh"]


class Pane:
    """A screen of `columns` by `rows` on which the client runs."""

    def __init__(self, folder: Path, columns: int, rows: int, command: list[str]) -> None:
        (folder / "conf").write_text(CONFIGURATION)
        self._tmux = [program("tmux"), "-u", "-f", str(folder / "conf"), "-S", str(folder / "tmux")]
        size = ["-x", str(columns), "-y", str(rows)]
        self._code = folder / "code"
        started = [*SHELL, str(self._code), *command]
        self.run("new-session", "-d", *size, "-c", str(ROOT), *started)
        self._server = int(self.run("display-message", "-p", "#{pid}"))

    def run(self, *arguments: str) -> str:
        inherited = {name: value for name, value in os.environ.items() if name != "TMUX"}
        done = subprocess.run(
            [*self._tmux, *arguments],
            env=inherited,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    # --- what the user does -------------------------------------------------------------------

    def type(self, text: str) -> None:
        self.run("send-keys", "-l", text)

    def press(self, *keys: str) -> None:
        """By the names that tmux has for them."""
        self.run("send-keys", *keys)

    def paste(self, text: str) -> None:
        """As a terminal pastes into a program that has asked to be told (bracketed)."""
        self.run("set-buffer", text)
        self.run("paste-buffer", "-p")

    def resize(self, columns: int, rows: int) -> None:
        self.run("resize-window", "-x", str(columns), "-y", str(rows))

    # --- what the user sees -------------------------------------------------------------------

    @property
    def rows(self) -> list[str]:
        """From the top of the screen to its bottom, without what is blank at their ends."""
        return [row.rstrip() for row in self.run("capture-pane", "-p").split("\n")[:-1]]

    @property
    def colours(self) -> str:
        """The screen with its escape sequences."""
        return self.run("capture-pane", "-e", "-p")

    @property
    def said(self) -> list[str]:
        """What is above the status, without the blank rows above it."""
        rows = self.rows
        status = next((i for i, row in enumerate(rows) if self._is_status(row)), len(rows))
        return "\n".join(rows[:status]).strip("\n").split("\n")

    @property
    def status(self) -> str:
        return next((row for row in self.rows if self._is_status(row)), "")

    @property
    def typed(self) -> str:
        """What is below the status."""
        rows = self.rows
        status = next((i for i, row in enumerate(rows) if self._is_status(row)), len(rows))
        return "\n".join(rows[status + 1 :]).rstrip("\n")

    @staticmethod
    def _is_status(row: str) -> bool:
        return len(row) > 1 and row[0] == " " != row[1]

    def wait(self, done: Callable[[], bool], what: str = "") -> None:
        try:
            until(lambda: done() or None, what)
        except AssertionError as error:
            screen = "\n".join(self.rows)
            raise AssertionError(f"{error}; the screen stayed as it is:\n{screen}") from None

    def says(self, *rows: str) -> None:
        """Wait until these are the last rows of what was said."""
        self.wait(lambda: self.said[-len(rows) :] == list(rows), f"it says {rows}")

    def has_typed(self, text: str) -> None:
        self.wait(lambda: self.typed == f"<You>{text}", f"<You>{text}")

    def end(self) -> int:
        """Wait until the client has ended; returns its exit code."""
        self.wait(lambda: self._code.exists() and self._code.read_text().endswith("\n"), "it ends")
        return int(self._code.read_text())

    @property
    def left(self) -> list[str]:
        """What is left on the screen after its end."""
        return "\n".join(self.rows).strip("\n").split("\n")

    @property
    def client(self) -> int:
        """Its process."""
        shell = int(self.run("display-message", "-p", "#{pane_pid}"))
        return int(Path(f"/proc/{shell}/task/{shell}/children").read_text())

    def close(self) -> None:
        self.run("kill-server")
        until(lambda: not os.path.exists(f"/proc/{self._server}") or None, "tmux is gone")


@contextmanager
def pane(
    *arguments: str, columns: int = 60, rows: int = 12, env: dict[str, str] | None = None
) -> Iterator[Pane]:
    # Not pytest's: a socket's path is short.
    with tempfile.TemporaryDirectory(prefix="tmux-") as folder:
        command = ["env", *(f"{name}={value}" for name, value in (ALIKE | (env or {})).items())]
        here = Pane(Path(folder), columns, rows, [*command, *CLIENT, *arguments])
        try:
            yield here
        finally:
            here.close()
