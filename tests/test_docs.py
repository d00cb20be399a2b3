"""Run every command in README.md, CONTRIBUTING.md and docs/, and check every link.

How a page is read:

- A section reaches from one `## ` heading to the next. It is run by itself, in a new folder that is
  like a clone of the repository.
- In a block of type `console`, a line that begins with `$ ` is a command. The lines after it are
  its expected output. Numbers and spaces may differ. `…` stands for any text, and a line that is
  only `…` stands for any lines.
- A command that does not end by itself (`KEEPS_RUNNING`) runs in its own terminal until the section
  ends, or until another room needs its port. Then Ctrl-C stops it. After a server is started, the
  next command waits until the server listens.
- A block after a line that ends in "`NAME`:" is the content of the file NAME.
- The docs' addresses and ports are replaced by those of this machine (`STANDS_FOR`), and ports from
  4000 to 4009 by free ports.
- Commands that take long are replaced by shorter ones (`SHORTER`). Commands that can't be run are
  in `NOT_RUN`, with the reason.
"""

import ast
import os
import re
import shutil
import signal
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from html import unescape
from itertools import takewhile
from pathlib import Path
from typing import Any

import pytest

from harness.reference.broken import REGISTRY
from tests.integration.processes import LISTENS, connections, session
from tests.integration.waiting import until
from tests.programs import PACKAGES, SYSTEM, program
from tests.system.ports import free_port

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]

#: Files and folders of the repository that the commands need.
CLONE = ["PROTOCOL.md", "chatroom", "docs", "harness", "pyproject.toml", "scripts", "tests"]

#: Time limit (s) of a command. Some commands need 15 s of processor time, and other tests run at
#: the same time.
WITHIN = 180

#: Maximum number of attempts to run a command, if the harness reports that the machine is too busy.
ATTEMPTS = 5

#: Patterns of commands that no test runs, each with the reason.
NOT_RUN = {
    r"^(python3 -m venv|\. \.venv/bin/activate|pip install) ?": "tests/test_package.py does that,"
    " in an environment of its own",
    r"^chatroom --version": "tests/test_package.py and tests/test_builds.py do that",
    r"^sudo ": "needs a machine of its own, with systemd",
    r"^docker ": "there is no Docker in CI; tests/test_docker.py runs what is in the image",
    r"^scripts/test\b": "these tests are a part of it; tests/test_scripts.py tests its arguments",
}

#: Patterns of commands that take long, and their shorter replacements.
SHORTER = [
    (r"harness conform(?! --only)", "harness conform --jobs 1 --only CAST-2"),
    (r"(harness bench .*)", r"\1 --crowd 5 --solo 5 --seconds 0.01 --rounds 1 --repeat 1"),
    # A short run with few clients would miss the moments that these scenarios must reach.
    # tests/stress runs them as a whole.
    (r"harness simulate (?:chaos|cluster)", "harness simulate churn"),
    (r"(harness simulate [\w.]+)", r"\1 --duration 2 --clients 12"),
    (r"(tests\.integration\.pause .*)", r"\1 --clients 20 --deaths 1"),
]

#: Patterns of addresses in the docs, and the addresses of this machine that replace them.
STANDS_FOR = [
    (r"^scripts/serve ", "scripts/serve 127.0.0.1 4000 "),
    (r"\b192\.0\.2\.7\b|\b0\.0\.0\.0\b", "127.0.0.1"),
    (r"\b192\.0\.2\.(\d+)\b", r"127.0.0.\1"),
    (r" :: ", " ::1 "),
]

PORT = r"\b(?:400\d|4222)\b"

#: Commands that run until they are stopped. A command with input from a pipe ends by itself.
ROOM = r"^(python3? -m chatroom(\.web)?|scripts/serve) "
KEEPS_RUNNING = rf"{ROOM}|^(haproxy|nats-server|nginx|stunnel|nc|ncat|tail -f) |--watch"

#: Programs whose name in the docs differs from their name in tests/programs.py.
CALLED = {"nc": "nc.openbsd"}


@dataclass
class Command:
    text: str
    printed: list[str] = field(default_factory=list)

    @property
    def bare(self) -> str:
        """The command without its comment."""
        return re.sub(r"\s+# .*", "", self.text)


@dataclass
class File:
    name: str
    text: str


@dataclass
class Section:
    page: Path
    title: str
    steps: list[Command | File] = field(default_factory=list)

    @property
    def commands(self) -> list[Command]:
        return [step for step in self.steps if isinstance(step, Command)]


def sections(page: Path) -> list[Section]:
    lines = iter(page.read_text(encoding="utf-8").splitlines())
    found = [Section(page, "")]
    above = ""
    for line in lines:
        if line.startswith("## "):
            found.append(Section(page, line.removeprefix("## ")))
        elif line.lstrip().startswith("```"):
            indent = len(line) - len(line.lstrip())  # indent of the list item with this block
            block = [row[indent:] for row in takewhile(lambda row: row.lstrip() != "```", lines)]
            name = re.search(r"`([\w.-]+)`:$", above)
            if line.lstrip() == "```console":
                found[-1].steps += _commands(block)
            elif name is not None:
                found[-1].steps.append(File(name[1], "\n".join(block) + "\n"))
        elif line:
            above = line
    return found


def _commands(block: list[str]) -> list[Command]:
    found: list[Command] = []
    for line in block:
        if line.startswith("$ "):
            found.append(Command(line.removeprefix("$ ")))
        else:
            found[-1].printed.append(line)
    return found


ALL = [section for page in PAGES for section in sections(page)]
RUN = [section for section in ALL if section.commands]

#: Pages that run only with --all, because tests/harness/bench runs the same commands per server.
LONG = {"benchmarks.md"}


def not_run(command: Command) -> str | None:
    return next((why for what, why in NOT_RUN.items() if re.search(what, command.bare)), None)


# --- output --------------------------------------------------------------------------------------


def pattern(printed: list[str]) -> str:
    """Return the pattern of a command's output, given the output on the page."""
    lines = [r"(?:.*\n)*?" if line == "…" else _line(line) + r"\s*\n" for line in printed]
    return r"\s*" + "".join(lines)


def _line(line: str) -> str:
    address = r"\d+\.\d+\.\d+\.\d+(?::400\d)?"
    parts = re.split(rf"({address}|[\d.,:]*\d|…|\s+)", line.strip())
    return r"\s*" + "".join(map(_part, parts))


def _part(part: str) -> str:
    if re.fullmatch(r"\d+\.\d+\.\d+\.\d+.*", part):
        return re.escape(part)
    if part == "…":
        return ".*"
    if part.isspace():
        return r"\s+"
    return r"[\d.,:]*\d" if part[-1:].isdigit() else re.escape(part)


# --- running commands ----------------------------------------------------------------------------


@dataclass
class Background:
    command: str
    process: "subprocess.Popen[bytes]"
    output: Path
    port: str | None

    @property
    def is_room(self) -> bool:
        return re.search(ROOM, self.command) is not None

    def stop(self) -> None:
        """Stop the command by Ctrl-C. As at a terminal, its whole process group gets the signal."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGINT)
        with self.process:  # closes the input of the process
            try:
                code = self.process.wait(10)
                assert not self.is_room or code == 0, f"{self.command}: {self.output.read_text()}"
            finally:
                for process in session(self.process.pid):
                    os.kill(process.pid, signal.SIGKILL)


def stands_for(text: str) -> str:
    for what, instead in STANDS_FOR:
        text = re.sub(what, instead, text, flags=re.MULTILINE)
    return text


class Terminal:
    """A terminal in a clone of the repository, in which the commands of one section run."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._background: list[Background] = []
        self._ports: dict[str, int] = {}
        for name in CLONE:
            copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
            copy(ROOT / name, folder / name)
        (folder / "bin").mkdir()
        for name in {*PACKAGES, *CALLED}:
            with suppress(pytest.skip.Exception, pytest.fail.Exception):
                (folder / "bin" / name).symlink_to(program(CALLED.get(name, name)))
        where = [str(folder / "bin"), str(Path(sys.executable).parent), os.environ["PATH"], *SYSTEM]
        self._environment = os.environ | {
            "PATH": os.pathsep.join(where),
            "PYTHON": sys.executable,
            "TMPDIR": str(folder),
        }
        for name in ("XDG_RUNTIME_DIR", "PYTHONPATH"):
            self._environment.pop(name, None)

    def close(self) -> None:
        with ExitStack() as leaving:
            for command in self._background:
                leaving.callback(command.stop)

    def here(self, text: str) -> str:
        """Replace the addresses and ports in a text by those of this machine."""
        return re.sub(PORT, lambda found: str(self._port(found[0])), stands_for(text))

    def _port(self, number: str) -> int:
        return self._ports.setdefault(number, free_port())

    def do(self, step: Command | File) -> None:
        if isinstance(step, File):
            (self._folder / step.name).write_text(self.here(step.text))
            return
        text = step.bare + " "
        for word in set(re.findall(r"[\w.-]+", text)):
            if word in CALLED or (word in PACKAGES and word != "ip"):
                program(CALLED.get(word, word))  # skips the test if there is none
        if re.search(KEEPS_RUNNING, text) and not re.search(r" --(help|version) ", text):
            self._start(text, step.printed)
        else:
            self._run(text, step.printed)

    def _start(self, text: str, printed: list[str]) -> None:
        [port] = re.findall(PORT, stands_for(text))[-1:] or [None]
        is_room = re.search(ROOM, text) is not None
        for command in [
            command
            for command in self._background
            if is_room and command.is_room and command.port == port
        ]:
            self._background.remove(command)
            command.stop()
        output = self._folder / f"terminal-{len(list(self._folder.glob('terminal-*')))}"
        with output.open("wb") as file:
            process = subprocess.Popen(
                ["bash", "-c", f"exec {self.here(text)}"],
                cwd=self._folder,
                env=self._environment,
                stdin=subprocess.PIPE,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        started = Background(text, process, output, port)
        self._background.append(started)
        if not printed and is_room:
            printed = ["listening on …"]
        wanted = pattern([self.here(line) for line in printed])

        def ready() -> bool:
            said = output.read_text()
            assert process.poll() is None, f"{text}: {said}"
            is_client = re.match(r"nc|tail ", text)
            return bool(re.match(wanted, said)) and bool(is_client or _listens(process))

        try:
            until(ready, f"{text} is ready")
        except AssertionError as error:
            raise AssertionError(f"{text}: {output.read_text()!r}, not {printed}") from error

    def _run(self, text: str, printed: list[str]) -> None:
        for what, instead in SHORTER:
            text = re.sub(what, instead, text)
        for _ in range(ATTEMPTS):
            done = subprocess.run(
                ["bash", "-c", self.here(text)],
                check=False,
                cwd=self._folder,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=WITHIN,
            )
            # On a busy machine, the harness may report that it can't judge. That is not a defect.
            if not re.search("the harness itself was .*late", done.stdout):
                break
        assert done.returncode == 0, f"{text}: {done.stdout}"
        wanted = pattern([self.here(line) for line in printed])
        assert re.match(wanted, done.stdout), f"{text}: {done.stdout}, not {printed}"


def _listens(process: "subprocess.Popen[bytes]") -> bool:
    held = {descriptor for each in session(process.pid) for descriptor in each.descriptors}
    return any(
        connection.state == LISTENS and f"socket:[{connection.inode}]" in held
        for connection in connections()
    )


@contextmanager
def terminal(folder: Path) -> Iterator[Terminal]:
    opened = Terminal(folder)
    try:
        yield opened
    finally:
        opened.close()


def _parameter(section: Section) -> Any:
    marks = [pytest.mark.thorough] if section.page.name in LONG else []
    return pytest.param(section, id=f"{section.page.name}: {section.title}", marks=marks)


@pytest.mark.docs
@pytest.mark.sample(9)
@pytest.mark.timeout(3 * WITHIN)
@pytest.mark.parametrize("section", [_parameter(section) for section in RUN])
def test_the_commands_of_a_section_work(
    section: Section, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("docs")  # a short path, for Unix sockets
    with terminal(folder) as here:
        for step in section.steps:
            if isinstance(step, File) or not not_run(step):
                here.do(step)
    shutil.rmtree(folder)


def test_every_command_marked_as_not_run_is_in_the_docs() -> None:
    texts = [command.bare for section in RUN for command in section.commands]
    for what in NOT_RUN:
        assert any(re.search(what, line) for line in texts), what


@pytest.mark.parametrize(
    ("shown", "printed", "matches"),
    [
        (["listening on 127.0.0.1:4000"], "listening on 127.0.0.1:4000\n", True),
        (["listening on 127.0.0.1:4000"], "listening on 127.0.0.2:4000\n", False),
        (["pid 4711, up 0:00:05"], "pid 12, up 1d 0:00:00\n", False),
        (["pid 4711, up 0:00:05"], "pid 12,  up 10:00:00\n", True),
        (["…", "kicked: 1"], "one\ntwo\nkicked: 7\n", True),
        (["…", "kicked: 1"], "one\ntwo\n", False),
        (["id …from …"], " id  thing from  there\n", True),
        ([], "whatever\n", True),
    ],
)
def test_the_output_of_a_command_is_compared(shown: list[str], printed: str, matches: bool) -> None:
    assert bool(re.match(pattern(shown), printed)) == matches


# --- links and names -----------------------------------------------------------------------------


@cache
def anchors(page: Path) -> set[str]:
    """Return the anchors that GitHub makes from a page's headings."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", [*PAGES, ROOT / "PROTOCOL.md"], ids=lambda page: page.name)
def test_every_link_has_a_target(page: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        assert target.is_relative_to(ROOT), link
        assert not anchor or anchor in anchors(target), link


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_test_named_on_a_page_exists(page: Path) -> None:
    for name, test in re.findall(r"`([\w/]+\.py)::(\w+)`", page.read_text(encoding="utf-8")):
        tree = ast.parse((ROOT / name).read_text(encoding="utf-8"))
        functions = ast.FunctionDef, ast.AsyncFunctionDef
        names = {node.name for node in ast.walk(tree) if isinstance(node, functions)}
        assert test in names, f"{name}::{test}"


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 200


@pytest.mark.parametrize("name", ["README.md", "CHANGELOG.md", "docs/harness.md"])
def test_the_number_of_broken_servers_is_right(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    assert re.findall(r"(\d+) broken servers", text) == [str(len(REGISTRY))]


def test_every_page_is_in_the_index() -> None:
    index = (ROOT / "docs/README.md").read_text(encoding="utf-8")
    for page in (ROOT / "docs").glob("*.md"):
        assert page.name == "README.md" or f"]({page.name})" in index, page.name


def words_of(picture: Path) -> list[str]:
    """Return the words of a picture. Numbers vary, so each is replaced by 0."""
    texts = re.findall(r">([^<>]*)</text>", picture.read_text(encoding="utf-8"))
    return re.sub(r"\d+", "0", unescape(" ".join(texts)).replace("\u2500", " ")).split()


@pytest.mark.docs
@pytest.mark.timeout(WITHIN)
def test_the_picture_of_the_terminal_is_what_the_script_draws(tmp_path: Path) -> None:
    """LOAD-4: the script fails if a member misses a line because a worker dies."""
    drawn = tmp_path / "terminal.svg"
    subprocess.run([sys.executable, ROOT / "scripts/draw-terminal", drawn], check=True)
    assert words_of(drawn) == words_of(ROOT / "docs/terminal.svg")


def test_the_picture_of_the_layers_shows_the_checked_contract() -> None:
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    [checked, *_] = [
        contract["layers"]
        for contract in pyproject["tool"]["importlinter"]["contracts"]
        if "layers" in contract
    ]
    page = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    block = re.search(r"## The layers.*?```\n(.*?)```", page, re.DOTALL)
    assert block is not None
    shown = [re.split(" · ", re.split("  +", line.strip())[0]) for line in block[1].splitlines()]
    assert [sorted(names) for names in shown] == [
        sorted(name for name in re.findall(r"\w+", layer) if name != "__main__")
        for layer in checked
    ]
