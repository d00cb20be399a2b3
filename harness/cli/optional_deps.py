"""Check that the packages of the extra `harness` are installed, which some commands need."""

from __future__ import annotations

import argparse
import importlib.util

PACKAGES = ("jinja2", "psutil", "pytest", "rich", "xdist")


def needs_extra(parser: argparse.ArgumentParser) -> None:
    """Exit with a one-line error unless all packages of the extra are installed."""
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        parser.error(f'missing packages: {", ".join(missing)}; pip install "chatroom[harness]"')
