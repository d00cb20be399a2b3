"""Tests of the two builds of chatroom: pure Python, and compiled modules (hatch_compile.py).

The tests of a checkout run on pure Python. `scripts/test -e compiled` installs a compiled wheel,
and runs tests in a folder without the sources. Python can't trace the lines of a compiled module,
and a compiled class can't be patched or subclassed. Tests that do so are marked `pure`.
"""

import pytest

from chatroom.build import BUILD

WHY = "a compiled module can't be traced, patched or subclassed"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--build",
        choices=("compiled", "pure"),
        default=BUILD,
        help="fail unless this build of chatroom is the one that is tested",
    )


def pytest_configure(config: pytest.Config) -> None:
    if config.option.build != BUILD:
        raise pytest.UsageError(f"the tested chatroom is {BUILD}, not {config.option.build}")


def pytest_report_header() -> str:
    return f"chatroom: {BUILD}"


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("pure"):
        skip_if_compiled()


def skip_if_compiled() -> None:
    """Skip the running test on compiled modules."""
    if BUILD == "compiled":
        pytest.skip(WHY)
