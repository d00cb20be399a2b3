"""The recipes that describe how to start the servers of a benchmark."""

import dataclasses
import sys
from pathlib import Path

import pytest

import chatroom
from harness.bench import servers
from harness.bench.servers import RECIPES, NotInstalledError, Recipe, custom, ports_of


def test_a_command_is_filled_in(tmp_path: Path) -> None:
    recipe = custom("mine", "{python} 'my server.py' {host} {port} -w {workers} {other} {}")
    assert recipe.fill(tmp_path, port=4711, workers=3, clients=10, speakers=1) == [
        *(sys.executable, "my server.py", "127.0.0.1", "4711", "-w", "3", "{other}", "{}")
    ]
    recipe.check_installed()


def test_files_are_written_before_the_start(tmp_path: Path) -> None:
    RECIPES["nats"].fill(tmp_path, 4711, 2, clients=100, speakers=1)
    text = (tmp_path / "nats.conf").read_text()
    assert "max_connections: 116\n" in text
    assert 'host: "127.0.0.1"\n' in text


def test_a_server_that_is_not_given_a_port_must_announce_one() -> None:
    announced = custom("mine", "./serve").ready
    assert announced
    found = announced.search(b"listening on 127.0.0.1:4711\n")
    assert found
    assert ports_of(found["endpoints"]) == [4711]
    assert not announced.search(b"listening on 127.0.0.1:47")  # more digits may follow
    several = announced.search(b"listening on 127.0.0.1:4711, 127.0.0.1:4712\n")
    assert several
    assert ports_of(several["endpoints"]) == [4711, 4712]
    assert not announced.search(b"listening on 127.0.0.1:4711, 127.0.0.1:47")
    assert custom("mine", "./serve {port}").ready is None


def test_nats_is_ready_after_its_second_start_message() -> None:
    nats = RECIPES["nats"].ready
    assert nats
    said = b"[INF] Listening for client connections on 127.0.0.1:43631\n"
    assert not nats.search(said)
    found = nats.search(said + b"[INF] Server is ready\n")
    assert found
    assert ports_of(found["endpoints"]) == [43631]


def test_only_the_project_s_own_servers_are_imported_from_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "chatroom.py").write_text("print('another chatroom')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    own, other = RECIPES["chatroom"], custom("other", "./serve")
    assert servers.version_of(own).startswith(f"chatroom {chatroom.__version__}")
    named = dataclasses.replace(other, version="{python} -P -m chatroom --version")
    assert servers.version_of(named) == "another chatroom"


def test_a_missing_program_or_module_is_an_error() -> None:
    with pytest.raises(NotInstalledError, match="no program no-such-program"):
        custom("mine", "no-such-program").check_installed()
    with pytest.raises(NotInstalledError, match="no Python module no_such_module"):
        Recipe("mine", "chat", "{python}", None, module="no_such_module").check_installed()


@pytest.mark.parametrize(
    ("version", "shown"),
    [
        ("", ""),
        ("{python} --version", f"Python {sys.version.split()[0]}"),
        ("{python} -c \"print('v1\\nmore')\"", "v1"),
        ("{python} -c ''", ""),
        ("{python} -c 'raise SystemExit(1)'", ""),
        ("no-such-program", ""),
    ],
)
def test_versions(version: str, shown: str) -> None:
    assert servers.version_of(Recipe("mine", "chat", "x", None, version)) == shown
