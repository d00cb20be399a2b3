"""What holds for every test."""

import pytest
from hypothesis import HealthCheck, settings

pytest_plugins = ["pytester", "tests.selection"]

# The assertions of these helpers, too, show what they compared. Any test may import them, so it is
# said before the first.
for helper in ("client.panes", "integration.clients", "integration.rooms", "integration.waiting"):
    pytest.register_assert_rewrite(f"tests.{helper}")

# Tests share two cores with each other and with coverage: how long an example took says nothing.
settings.register_profile(
    "chatroom", deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True
)
settings.load_profile("chatroom")
