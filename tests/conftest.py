"""Settings for all tests."""

import signal

import pytest
from hypothesis import HealthCheck, settings

pytest_plugins = ["pytester", "tests.builds", "tests.selection"]

# pytest shows the compared values of a failed assertion only in test modules and in registered
# modules. Register these helpers here, before any test imports them.
for helper in ("client.panes", "integration.clients", "integration.rooms", "integration.waiting"):
    pytest.register_assert_rewrite(f"tests.{helper}")

# No deadline for an example: tests share two cores with each other and with coverage.
settings.register_profile(
    "sample",
    deadline=None,
    max_examples=30,
    suppress_health_check=[HealthCheck.too_slow],
    print_blob=True,
)
settings.register_profile("all", parent=settings.get_profile("sample"), max_examples=100)
settings.load_profile("sample")


def pytest_configure(config: pytest.Config) -> None:
    if config.option.all:
        settings.load_profile("all")


@pytest.fixture(autouse=True, scope="session")
def interruptible() -> None:
    """Let SIGINT interrupt the processes that tests start.

    A shell starts a background job (`scripts/test &` in a script) with SIGINT ignored, and child
    processes inherit this. As a result, SIGINT would end neither a room nor `chatroom.status
    --watch`.
    """
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
