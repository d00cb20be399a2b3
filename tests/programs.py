"""Programs that some tests need, but that pip can't install."""

import os
import shutil

import pytest

#: Debian package of each program. `.ci/run` installs all of them.
PACKAGES = {
    "chromium": "chromium",
    "curl": "curl",
    "fribidi": "libfribidi-bin",
    "haproxy": "haproxy",
    "ip": "iproute2",
    "nc.openbsd": "netcat-openbsd",
    "ncat": "ncat",
    "nats-server": "nats-server",
    "nginx": "libnginx-mod-stream",
    "openssl": "openssl",
    "redis-server": "redis-server",
    "setsid": "util-linux",
    "stunnel": "stunnel4",
    "systemd-analyze": "systemd",
    "telnet": "inetutils-telnet",
    "tmux": "tmux",
    "unshare": "util-linux",
}

#: Folders of daemons on Debian. Only root's PATH contains these folders.
SYSTEM = ["/usr/local/sbin", "/usr/sbin", "/sbin"]


def program(name: str) -> str:
    """Return the path of a program. If there is none, skip the test, or fail it if CI is set."""
    path = os.environ.get("PATH", os.defpath)
    if found := shutil.which(name, path=os.pathsep.join([path, *SYSTEM])):
        return found
    absent = f"{name} is not installed (Debian: apt-get install {PACKAGES[name]})"
    if os.environ.get("CI"):
        pytest.fail(absent)
    pytest.skip(absent)
