"""The entry point that pytest loads wherever the harness is installed.

The plugin's options have plain names, such as --seed, which options of another plugin may also
have. So the plugin is loaded only in runs that collect `harness.conformance`.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

_MODULE = re.compile(r"harness\.conformance\b")
_FOLDER = Path(__file__).resolve().parent / "conformance"


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config, args: list[str]) -> None:
    if any(map(_names_conformance, args)):
        early_config.pluginmanager.import_plugin("harness.conformance.plugin")


def _names_conformance(argument: str) -> bool:
    """Return whether an argument of pytest names `harness.conformance`, or a path in its folder."""
    path = Path(argument.partition("::")[0]).resolve()
    return bool(_MODULE.match(argument)) or path.is_relative_to(_FOLDER)
