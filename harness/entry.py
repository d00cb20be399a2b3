"""The entry point that pytest loads wherever the harness is installed.

The plugin's options have plain names, such as --seed, which another plugin may have, too.
So the plugin is loaded only in runs that collect `harness.conformance`.
"""

from __future__ import annotations

import re

import pytest

_CONFORMANCE = re.compile(r"(?:.*/)?harness[./]conformance\b")


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config, args: list[str]) -> None:
    if any(_CONFORMANCE.match(argument) for argument in args):
        early_config.pluginmanager.import_plugin("harness.conformance.plugin")
