"""A member whose machine has vanished: no more packets arrive from it, not even a FIN.

The room and its members are in a new network namespace. The test takes the namespace's link down.
"""

import os
import subprocess
import sys

import pytest

from tests.integration.rooms import ROOT
from tests.integration.waiting import PATIENCE
from tests.programs import program

SCENE = """
import subprocess, sys
from tests.integration.rooms import room

with room("--peer-timeout", 2) as here:
    here.join_all(["127.0.0.2", "127.0.0.3", "127.0.0.4"])
    subprocess.run([sys.argv[1], "link", "set", "lo", "down"], check=True)
    printed = here.read_until("disconnected\\n") + here.read_until("disconnected\\n")
    printed += here.read_until("disconnected\\n")
    for address in ("127.0.0.2", "127.0.0.3", "127.0.0.4"):
        assert f"{address} disconnected\\n".encode() in printed, printed
"""


def test_leave_3_a_member_whose_machine_vanished_is_removed() -> None:
    ip, unshare = program("ip"), program("unshare")
    private = [unshare, "--net"] if os.geteuid() == 0 else [unshare, "--net", "--map-root-user"]
    up = f'{ip} link set lo up && exec "$@"'
    scene = [*private, "sh", "-c", up, "sh", sys.executable, "-c", SCENE, ip]
    done = subprocess.run(
        scene, cwd=ROOT, capture_output=True, text=True, timeout=2 * PATIENCE, check=False
    )
    if "unshare failed" in done.stderr and not os.environ.get("CI"):
        pytest.skip(f"no network namespace: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr
