"""A transcript as its lines."""

import json
from pathlib import Path
from typing import Any


def read(*files: Path) -> list[dict[str, Any]]:
    """All lines of these files, one file after another; each has to be whole."""
    data = b"".join(file.read_bytes() for file in files)
    assert data.endswith(b"\n")
    return [json.loads(line) for line in data.decode().split("\n")[:-1]]
