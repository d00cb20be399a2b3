"""Browsers behind nginx and HAProxy, configured as docs/web.md says."""

import re
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.integration.browsers import Browser
from tests.integration.owner import Owner
from tests.integration.rooms import ROOT, room
from tests.integration.waiting import PATIENCE, until
from tests.programs import program
from tests.system.ports import free_port

HERE = "127.0.0.1"
WELCOME = "Welcome to socket practice"
COMMANDS = {
    "nginx.conf": ["nginx", "-p", ".", "-c", "nginx.conf", "-g", "daemon off;"],
    "haproxy.cfg": ["haproxy", "-f", "haproxy.cfg"],
}


def example(name: str) -> str:
    """Return a file of docs/web.md, without TLS."""
    page = (ROOT / "docs" / "web.md").read_text()
    [text] = re.findall(rf"`{re.escape(name)}`:\n\n```\w+\n(.*?)```", page, re.DOTALL)
    return re.sub(r" ssl\b( crt \S+)?| +ssl_certificate.*;", "", text)


@contextmanager
def proxy(name: str, room_port: int, folder: Path) -> Iterator[str]:
    """Run a proxy and yield the URL of the page behind it."""
    port = free_port()
    text = example(name).replace("192.0.2.7:4001", f"{HERE}:{port}")
    (folder / name).write_text(text.replace(f"{HERE}:4002", f"{HERE}:{room_port}"))
    command = [program(COMMANDS[name][0]), *COMMANDS[name][1:]]
    with (
        (folder / "output").open("wb") as output,
        subprocess.Popen(command, cwd=folder, stdout=output, stderr=output) as process,
    ):

        def listens() -> bool:
            assert process.poll() is None, (folder / "output").read_text()
            with socket.socket() as probe:
                return probe.connect_ex((HERE, port)) == 0

        try:
            until(listens, f"the proxy with {name} listens")
            yield f"http://{HERE}:{port}/"
        finally:
            process.terminate()
            process.wait(PATIENCE)


@pytest.mark.parametrize("name", COMMANDS)
def test_browsers_behind_a_proxy_have_their_own_addresses(name: str, tmp_path: Path) -> None:
    """An address that a browser claims in its own headers is ignored."""
    with room("--workers", 1, "--web", f"{HERE}:0", "--web-proxy-from", HERE) as here:
        port = int(here.read_until("/\n").rstrip(b"/\n").rpartition(b":")[2])
        with proxy(name, port, tmp_path) as url:
            origin = url.rstrip("/")
            with (
                Browser(
                    url, Origin=origin, X_Forwarded_For="6.6.6.6", Forwarded="for=7.7.7.7"
                ) as anna,
                Browser(url, source="127.0.0.9") as ben,
            ):
                anna.expect(WELCOME)
                ben.expect(WELCOME)
                members = Owner(here.run_dir).status()["members"]
                assert [member["address"] for member in members] == [HERE, "127.0.0.9"]
                anna.say("x" * 50_000)
                for _ in range(6):
                    ben.expect(f"<{HERE}>{'x' * 8192}")
                anna.cut()
                ben.say("meanwhile")
                anna.connect()
                anna.expect("<127.0.0.9>meanwhile")
