"""An error that several commands report in the same way."""

import tempfile

import pytest

from tests.harness.commands import Harness


@pytest.mark.parametrize(
    "arguments",
    [
        ("bench", "--crowd", "2"),
        ("limit", "--command", "false {port}"),
        ("simulate", "classroom", "--command", "false {port}"),
    ],
    ids=lambda arguments: arguments[0],
)
def test_a_missing_folder_for_temporary_files_is_reported_in_one_line(
    arguments: tuple[str, ...], harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    def find() -> str:
        raise FileNotFoundError(2, "No usable temporary directory found in ['/tmp']")

    with monkeypatch.context() as patch:  # pytest needs such a folder after the test
        patch.setattr(tempfile, "gettempdir", find)
        done = harness(*arguments, code=2)
    assert done.stderr == (
        f"python -m harness {arguments[0]}: there is no writable folder for temporary files: set"
        " TMPDIR to one\n"
    )
