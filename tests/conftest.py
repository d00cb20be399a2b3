"""What holds for every test."""

from hypothesis import HealthCheck, settings

# Tests share two cores with each other and with coverage: how long an example took says nothing.
settings.register_profile(
    "chatroom", deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True
)
settings.load_profile("chatroom")
