"""Functions that read transcripts."""

import json
from pathlib import Path
from typing import Any


def read(*files: Path) -> list[dict[str, Any]]:
    """Return all lines of these files, in order. Each line must be complete."""
    data = b"".join(file.read_bytes() for file in files)
    assert data.endswith(b"\n")
    return [json.loads(line) for line in data.decode().split("\n")[:-1]]
