"""A main process whose workers the test plays, for all tests of its parts."""

from tests.supervisor.stage import fixture_stage

__all__ = ["fixture_stage"]
