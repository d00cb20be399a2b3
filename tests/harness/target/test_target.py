"""Targets: how they start, run and end. After each test, no process may be left."""

import contextlib
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import uuid
from collections.abc import Iterator

import psutil
import pytest

from harness.errors import CannotJudge, NotApplicable, StartError, Undecided
from harness.target import processes, target
from harness.target.target import (
    LAST_OUTPUT_WITHIN,
    SHOWN,
    Command,
    Target,
    Times,
    parse_address,
    part_used,
)
from tests.integration.waiting import until

PYTHON = shlex.quote(sys.executable)
REFERENCE = f"{PYTHON} -m harness.reference {{host}} {{port}}"

SCALE = "(--timeout-scale gives it more time)"

PAUSES = "\nsignal.pause()"

#: The beginning of a server's code: imports, and a function that listens at the given address.
LISTENS = """
import os, signal, socket, sys, time
def listen():
    server = socket.socket()
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    server.bind((sys.argv[1], int(sys.argv[2])))
    server.listen()
    return server
"""


def python(code: str, before: str = "") -> str:
    return f"{before} {PYTHON} -c {shlex.quote(LISTENS + code)} {{host}} {{port}}"


@pytest.fixture
def nothing_left(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Assert that no process that a test has started outlives the test."""
    mark = uuid.uuid4().hex
    monkeypatch.setenv("CHATROOM_TEST_OF_TARGETS", mark)
    yield
    left = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.environ().get("CHATROOM_TEST_OF_TARGETS") == mark:
                left.append(process)
                process.kill()
    assert [pid for pid in left if is_alive(pid)] == []


def has_ended(pid: int) -> None:
    """Wait until a process has ended. The process need not be a child."""
    with contextlib.suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        until(lambda: not is_alive(process), f"process {pid} has ended")


def is_alive(process: psutil.Process) -> bool:
    """Return True if a process runs and is not a zombie."""
    with contextlib.suppress(psutil.Error):
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    return False


def started(command: str, scale: float = 1.0) -> Command:
    made = Command(command, scale=scale)
    made.start()
    return made


def greeting(server: Target) -> bytes:
    with socket.create_connection(server.address, 10) as connection:
        return connection.recv(7)


def refused(server: tuple[str, int]) -> bool:
    try:
        socket.create_connection(server, 10).close()
    except ConnectionRefusedError:
        return True
    return False


pytestmark = pytest.mark.usefixtures("nothing_left")


def test_a_server_is_started_talked_to_and_stopped() -> None:
    server = started(REFERENCE)
    try:
        assert greeting(server) == b"Welcome"
        assert server.death() == ""
        (process,) = server.processes()
        assert process.parent() == psutil.Process()
        assert server.local
        assert server.ours
    finally:
        server.stop()
    assert refused(server.address)
    assert server.processes() == []
    server.stop()  # does nothing


def test_start_keeps_the_port_and_fresh_takes_another() -> None:
    server = started(REFERENCE)
    try:
        before = server.address
        server.stop()
        server.start()
        assert server.address == before
        server.fresh()
        assert server.address != before
        assert refused(before)
        assert greeting(server) == b"Welcome"
    finally:
        server.stop()


@pytest.mark.parametrize("how", ["starts-late", "prints-nothing", "floods-its-output"])
def test_slow_silent_and_verbose_servers_can_be_started(how: str) -> None:
    server = started(f"{REFERENCE} --announce --hopeless {how}")
    try:
        assert greeting(server) == b"Welcome"
        assert len(server.output()) <= processes.KEPT_OUTPUT
    finally:
        server.stop()
    assert refused(server.address)


def test_a_server_that_ignores_sigterm_is_killed() -> None:
    server = started(f"{REFERENCE} --hopeless ignores-sigterm")
    server.stop()
    assert refused(server.address)
    assert 2 <= server.blocked < 30


def test_a_process_that_cannot_be_ended_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """The test acts as if the server ran as another user, for example under sudo."""
    server = started(python("one = listen()\nsignal.signal(15, signal.SIG_IGN)\nsignal.pause()"))
    pid = server.processes()[0].pid

    def denied(process: psutil.Process) -> None:
        raise psutil.AccessDenied(process.pid)

    def not_permitted(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(psutil.Process, "kill", denied)
    monkeypatch.setattr(os, "killpg", not_permitted)
    for limit in (target, "KILL_WITHIN"), (target, "STOP_WITHIN"), (processes, "KILLED_WITHIN"):
        monkeypatch.setattr(*limit, 0.1)
    process = server._server
    assert process is not None
    try:
        with pytest.raises(CannotJudge, match=f"the target's processes can't be ended: {pid}$"):
            server.stop()
    finally:
        os.kill(pid, signal.SIGKILL)
        process.stop()


def test_a_server_that_forks_and_leaves_runs_until_it_is_stopped() -> None:
    server = started(f"{REFERENCE} --hopeless forks-and-leaves")
    try:
        assert server._server
        assert server._server._process.wait(10) == 0
        assert greeting(server) == b"Welcome"
        assert server.death() == ""
        assert len(server.processes()) == 1
    finally:
        server.stop()
    assert refused(server.address)


@pytest.mark.parametrize(
    "before",
    ["env -i CHATROOM_TEST_OF_TARGETS=", "env -u CHATROOM_HARNESS_TARGET"],
)
def test_a_server_that_drops_its_environment_is_stopped(before: str) -> None:
    code = "if not os.fork():\n    signal.signal(15, signal.SIG_IGN)\n    os.setsid()\n"
    code += "    here = listen()\nsignal.pause()"
    server = started(python(code, before))
    try:
        main, child = server.processes()
        assert main.pid == child.ppid()
        assert server.costs().descriptors > 2
    finally:
        server.stop()
    assert refused(server.address)
    assert not any(map(is_alive, (main, child)))


#: Code of a server that becomes a daemon with an empty environment, and has an orphan in its
#: session.
DETACHES = """
if len(sys.argv) == 3:
    os.fork() and os._exit(0)
    os.setsid()
    os.fork() and os._exit(0)
    os.execve(sys.executable, [sys.executable, "-c", CODE, *sys.argv[1:], "daemon"], {})
signal.signal(15, signal.SIG_IGN)
if os.fork() == 0:
    if os.fork() == 0:
        signal.pause()
    os._exit(0)
os.wait()
here = listen()
signal.pause()
"""
DETACHES = f"CODE = {LISTENS + DETACHES!r}\n{DETACHES}"


def test_a_daemon_that_forks_twice_and_clears_its_environment_is_found_and_stopped() -> None:
    server = started(python(DETACHES))
    try:
        assert server._server
        assert server._server._process.wait(10) == 0
        daemon, orphan = server.processes()
        assert daemon.ppid() == orphan.ppid() == os.getpid()
        assert os.getsid(daemon.pid) == os.getsid(orphan.pid) != os.getsid(0)
        assert server.death() == ""
        assert server.costs().descriptors > 6
    finally:
        server.stop()
    assert refused(server.address)
    assert not psutil.pid_exists(daemon.pid)
    assert not psutil.pid_exists(orphan.pid)


def test_a_daemon_that_listens_late_is_found_although_its_first_process_has_ended() -> None:
    """The first process is a zombie while the daemon starts. The daemon listens after the harness
    has given up waiting for the end of the output."""
    wait = f"time.sleep({3 * LAST_OUTPUT_WITHIN})"
    late = DETACHES.replace("here = listen()", f"{wait}; here = listen()")
    server = started(python(late))
    try:
        assert len(server.processes()) == 2
    finally:
        server.stop()
    assert refused(server.address)


def test_orphans_are_adopted_only_while_a_server_runs() -> None:
    def adopts() -> bool:
        code = "import os\nos.fork() and os._exit(0)\nos.read(0, 1)\n"
        code += "print(os.getpid(), os.getppid())"
        with subprocess.Popen(
            [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as process:
            process.wait()
            orphan, parent = map(int, process.communicate()[0].split())
        has_ended(orphan)
        return parent == os.getpid()

    assert not adopts()
    servers = [started(REFERENCE) for _ in range(2)]
    try:
        servers.pop().stop()
        assert adopts()
    finally:
        servers.pop().stop()
    assert not adopts()
    with pytest.raises(StartError):
        started("/nowhere/server {port}")
    assert not adopts()


#: A process that runs servers for its clients, like a container engine. The servers are not
#: children of the clients. If a client sends "ends", its server ends when the client disconnects.
#: If a client sends "stays", its server ends when the engine ends.
ENGINE = """
import os, select, socket, subprocess, sys
engine = socket.create_server(("127.0.0.1", 0))
if os.fork():
    os._exit(0)
print(os.getpid(), engine.getsockname()[1], flush=True)
os.close(1)
clients = {}
servers = []
while True:
    for ready in select.select([engine, *clients], [], [])[0]:
        if ready is engine:
            client = engine.accept()[0]
            how, *command = client.recv(999).decode().split("\\n")
            if how == "end":
                [(server.kill(), server.wait()) for server in servers]
                sys.exit()
            servers.append(subprocess.Popen(command))
            clients[client] = how, servers[-1]
        elif not ready.recv(1):
            how, server = clients.pop(ready)
            if how == "ends":
                server.terminate()
                server.wait()
"""

ENGINE_CLIENT = """
import signal, socket, sys
connection = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
connection.sendall("\\n".join(sys.argv[2:]).encode())
signal.pause()
"""


def ask_engine(port: int, *words: str) -> str:
    return shlex.join([sys.executable, "-c", ENGINE_CLIENT, str(port), *words])


@pytest.fixture
def engine() -> Iterator[int]:
    """Run ENGINE, and yield its port."""
    with subprocess.Popen([sys.executable, "-c", ENGINE], stdout=subprocess.PIPE) as starter:
        assert starter.stdout
        pid, port = map(int, starter.stdout.readline().split())
    yield port
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(b"end")
    has_ended(pid)


def test_a_server_that_an_engine_runs_for_the_command_is_found(engine: int) -> None:
    server = started(ask_engine(engine, "ends", *shlex.split(REFERENCE)))
    try:
        assert greeting(server) == b"Welcome"
        assert server.death() == ""
        for ask in server.costs, server.times:
            with pytest.raises(Undecided, match="the command has not started the process that"):
                ask()
        with pytest.raises(NotApplicable, match="has not started the process that listens"):
            server.holders([1])
    finally:
        server.stop()
    assert refused(server.address)


def test_a_server_that_outlives_its_command_is_named(engine: int) -> None:
    server = started(ask_engine(engine, "stays", *shlex.split(REFERENCE)))
    port = server.port
    with pytest.raises(
        CannotJudge,
        match=rf"the command has ended, but process \d+ \(\w+\) still listens at port {port}$",
    ):
        server.stop()
    assert greeting(server) == b"Welcome"


@pytest.mark.parametrize(
    ("command", "complaint"),
    [
        (
            f"{REFERENCE} --hopeless exits-with-3",
            "it ended (exit status 3); its last line: no chat today",
        ),
        (
            f"{REFERENCE} --hopeless dies-by-signal",
            "it ended (SIGKILL); its last line: starting up ...",
        ),
        (python("os.kill(os.getpid(), 40)"), "it ended (signal 40)"),
        (python("print('\\x1b[2J' + 'x' * 9999); sys.exit(1)"), "its last line: \ufffd[2Jxxx"),
        (python("os.fork() or sys.exit(4)"), "it ended (exit status 0)"),
        ("/nowhere/server {port}", "can't run '/nowhere/server': No such file or directory"),
        ("/ {port}", "can't run '/': Permission denied"),
    ],
)
def test_a_server_that_ends_at_once_is_a_start_error(command: str, complaint: str) -> None:
    server = Command(command)
    with pytest.raises(StartError) as caught:
        server.start()
    assert complaint in str(caught.value)
    assert len(str(caught.value)) <= SHOWN + 10
    assert server.processes() == []
    assert server.death() == ""


@pytest.mark.parametrize(
    ("code", "seconds", "complaint"),
    [
        (
            "signal.pause()",
            0.5,
            f"it does not listen after 0.5 s {SCALE}, and printed nothing",
        ),
        (
            "signal.signal(15, signal.SIG_IGN)\nprint('\\x07hm', flush=True)\nsignal.pause()",
            3,
            f"it does not listen after 3 s {SCALE}; its last line: \ufffdhm",
        ),
        (
            "os.fork() and sys.exit()\nos.setsid()\nsignal.pause()",
            1,
            "it does not listen after 1 s",
        ),
        (
            "while True: os.write(1, b'x' * 9999)",
            2,
            f"it does not listen after 2 s {SCALE}; its last line: xxx",
        ),
    ],
)
def test_a_server_that_never_listens_is_a_start_error(
    code: str, seconds: float, complaint: str
) -> None:
    server = Command(python(code), scale=seconds / target.START_WITHIN)
    with pytest.raises(StartError) as caught:
        server.start()
    assert str(caught.value).startswith(complaint)
    assert len(str(caught.value)) <= SHOWN + 100
    assert server.processes() == []


def test_another_port_is_tried_if_the_first_was_taken(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        drawn = [stranger.getsockname()[1], processes.free_port()]
        monkeypatch.setattr(target, "free_port", lambda _: drawn.pop(0))
        server = started(REFERENCE)
        assert server.port != stranger.getsockname()[1]
        server.stop()
    assert drawn == []


def test_a_server_that_cannot_start_is_not_started_again(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = [processes.free_port()]
    monkeypatch.setattr(target, "free_port", lambda _: drawn.pop(0))
    with pytest.raises(StartError, match=r"it ended \(exit status 7\)"):
        started(python("sys.exit(7)"))


def test_a_listener_of_another_process_is_not_the_server_s() -> None:
    server = Command(python("signal.pause()"), scale=0.1)
    with socket.create_server((server.host, 0)) as stranger:
        server.port = stranger.getsockname()[1]
        with pytest.raises(StartError, match="it does not listen after 1 s"):
            server.start()


def test_the_end_of_a_server_is_described_with_its_last_output() -> None:
    code = "here = listen().accept()\nprint('oh', 'no', flush=True)\nos.kill(os.getpid(), 9)"
    server = started(python(code))
    try:
        with contextlib.suppress(ConnectionResetError), socket.create_connection(server.address):
            pass
        until(server.death, "the server has ended")
        assert server.death() == "ended (SIGKILL); its last line: oh no"
        assert "oh no" in server.output()
    finally:
        server.stop()


def test_another_starts_a_second_server_with_more_options() -> None:
    server = Command(REFERENCE)
    more = server.another("--max-clients 1", "::1")
    more.start()
    try:
        assert ":" in more.host
        with socket.create_connection(more.address, 10):
            assert greeting(more) == b"The roo"
    finally:
        more.stop()


def test_costs_and_holders_of_connections_are_found() -> None:
    code = "here = listen()\nif os.fork():\n    signal.pause()\nthere = here.accept()\n"
    code += "there[0].send(b'x')\nsignal.pause()"
    server = started(python(code))
    try:
        with socket.create_connection(server.address, 10) as connection:
            assert connection.recv(1) == b"x"
            port = connection.getsockname()[1]
            main, child = server.processes()
            assert server.holders([port]) == [child.pid]
            assert server.holders([1]) == []
        costs = server.costs()
        assert costs.descriptors >= main.num_fds() + child.num_fds() > 6
        assert costs.memory > 0
        assert set(server.times()) == {main.pid, child.pid}
        assert server.times()[main.pid].ran > 0
        os.kill(child.pid, signal.SIGKILL)
    finally:
        server.stop()
    assert server.costs() == target.Costs(0, 0)
    assert server.times() == {}


def test_suspended_stops_a_server_and_its_children_during_the_block() -> None:
    server = Command(python("server = listen(); os.fork(); time.sleep(60)"))
    server.start()
    try:
        until(lambda: len(server.processes()) == 2, "the server has forked")
        with server.suspended():
            states = [process.status() for process in server.processes()]
        assert states == 2 * [psutil.STATUS_STOPPED]
        assert psutil.STATUS_STOPPED not in [process.status() for process in server.processes()]
    finally:
        server.stop()


def test_part_used_counts_time_spent_waiting_for_a_processor() -> None:
    spins = {1: Times(3.0, 7.0)}
    assert part_used(spins, {1: Times(3.04, 7.46)}, 0.5) == pytest.approx(1)
    assert part_used(spins, {1: Times(3.04, 7.52)}, 0.5) == 1  # clocks differ slightly
    wakes_now_and_then = {1: Times(3.001, 7.17)}
    assert part_used(spins, wakes_now_and_then, 0.5) < 0.01
    assert part_used({}, {1: Times(0.25, 0), 2: Times(0.5, 0)}, 1.0) == 0.75
    assert part_used(spins, spins, 0.5) == 0


@pytest.mark.parametrize(
    ("command", "complaint"),
    [
        ("server", "port"),
        ("", "port"),
        ("'{port}", "quotation"),
        ("server {port} {port3}", "must contain {port2}, too"),
    ],
)
def test_an_invalid_command_is_an_error(command: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        Command(command)


def test_host_and_port_are_filled_in_within_words() -> None:
    server = Command(f"{PYTHON} -c 'import sys; sys.exit(repr(sys.argv))' --at={{host}}:{{port}}")
    with pytest.raises(StartError, match=r"'--at=127\.0\.0\.1:\d+'\]"):
        server.start()


def test_a_server_with_two_ports_has_started_when_it_listens_at_both() -> None:
    ports = "{port} {port2} {port2}"
    code = "import harness.reference.__main__ as reference\nreference.main(sys.argv[1:3])"
    with pytest.raises(StartError) as caught:
        started(f"{python(code).removesuffix('{port}')}{ports}", scale=0.3)
    assert re.match(r"it does not listen at port \d+ after 3 s", str(caught.value))
    both = "first = listen()\ntime.sleep(0.3)\nsys.argv[2] = sys.argv[3]\nsecond = listen()"
    server = started(f"{python(both + PAUSES).removesuffix('{port}')}{ports}")
    try:
        before = server.endpoints
        assert len({port for _, port in before}) == 2
        for endpoint in before:
            socket.create_connection(endpoint).close()
        server.stop()
        server.start()
        assert server.endpoints == before
        server.fresh()
        assert not {*server.endpoints} & {*before}
    finally:
        server.stop()


# --- targets at an address -----------------------------------------------------------------------


def test_a_target_at_an_address_is_not_started_or_stopped() -> None:
    server = started(REFERENCE)
    try:
        there = Target(*server.address)
        there.start()
        there.fresh()
        there.stop()
        assert greeting(there) == b"Welcome"
        assert (there.death(), there.output()) == ("", "")
    finally:
        server.stop()
    with pytest.raises(StartError, match=r"127\.0\.0\.1:\d+ can't be reached: Connection refused"):
        there.start()


def test_each_address_of_a_room_must_be_reached() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        there = Target(*listener.getsockname(), ("127.0.0.1", 1))
        with pytest.raises(StartError, match=r"127\.0\.0\.1:1 can't be reached"):
            there.start()
    assert str(Target("::1", 5, ("a", 6))) == "[::1]:5, a:6"


@pytest.mark.parametrize(
    ("text", "address"),
    [("127.0.0.1:5", ("127.0.0.1", 5)), ("[::1]:65535", ("::1", 65535)), ("a:b:1", ("a:b", 1))],
)
def test_an_address_is_parsed(text: str, address: tuple[str, int]) -> None:
    assert parse_address(text) == address


@pytest.mark.parametrize("text", ["", ":", "a", "a:", ":1", "a:65536", "a:²", "a:-1", "a:1 "])
def test_an_invalid_address_is_an_error(text: str) -> None:
    with pytest.raises(ValueError, match="is not HOST:PORT"):
        parse_address(text)


@pytest.mark.parametrize("host", ["a..b", "x" * 70, "no-such-host.invalid"])
def test_a_host_that_does_not_resolve_is_a_start_error(host: str) -> None:
    with pytest.raises(StartError, match="can't be reached: "):
        Target(host, 9).start()


def test_a_target_at_an_address_has_no_costs_or_holders_and_cannot_be_stopped() -> None:
    there = Target("192.0.2.1", 9)
    assert not there.ours
    assert not there.local
    with pytest.raises(Undecided, match="no server of its kind"):
        there.another()
    with pytest.raises(Undecided, match="its costs are unknown"):
        there.costs()
    with pytest.raises(NotApplicable, match="processes"):
        there.holders([1])
    with pytest.raises(NotApplicable, match="can't be stopped"), there.suspended():
        pass


@pytest.mark.parametrize("host", ["localhost", "::1", "127.0.0.1", "127.3.2.1"])
def test_loopback_hosts_are_local(host: str) -> None:
    assert Target(host, 1).local
