"""What only some commands need: the packages of the extra `harness`."""

from __future__ import annotations

import argparse
import importlib.util

PACKAGES = ("jinja2", "psutil", "pytest", "rich", "xdist")


def needs_extra(parser: argparse.ArgumentParser) -> None:
    """End with one line, unless all packages of the extra are installed."""
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        parser.error(f'{", ".join(missing)} missing: pip install "chatroom[harness]"')
