"""Ports for servers that a test starts by a command that has to name one."""

import socket


def free_port(host: str = "127.0.0.1") -> int:
    """One that nobody has just now."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, 0), family=family) as probe:
        port: int = probe.getsockname()[1]
        return port
