"""The fixture of stage.py, for all tests of the main process."""

from tests.supervisor.stage import fixture_stage

__all__ = ["fixture_stage"]
