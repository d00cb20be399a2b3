"""Settings for all tests."""

import signal

import pytest
from hypothesis import HealthCheck, settings

pytest_plugins = ["pytester", "tests.builds", "tests.selection"]

# Failed assertions in these helpers also show the compared values. Any test may import them, so
# they are registered before the first one.
for helper in ("client.panes", "integration.clients", "integration.rooms", "integration.waiting"):
    pytest.register_assert_rewrite(f"tests.{helper}")

# Tests share two cores with each other and with coverage, so the time of an example means nothing.
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
    """Let the processes that tests start be interrupted.

    A shell starts a job in the background (`scripts/test &` in a script) with SIGINT ignored, and
    each process inherits that from the one that started it. Then SIGINT would not end a room, nor
    `chatroom.status --watch`.
    """
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
