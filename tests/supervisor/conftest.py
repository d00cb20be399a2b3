"""The fixture `main` for all tests of the main process."""

from tests.supervisor.main_process import fixture_main

__all__ = ["fixture_main"]
