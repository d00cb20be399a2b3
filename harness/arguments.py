"""Types of arguments that several commands take."""

from __future__ import annotations

import argparse
from collections.abc import Callable


def whole(lowest: int) -> Callable[[str], int]:
    """A type for `add_argument`: a whole number, `lowest` or more."""

    def parse(text: str) -> int:
        if not text.isascii() or not text.isdigit() or int(text) < lowest:
            raise argparse.ArgumentTypeError(f"has to be {lowest} or more, not {text!r}")
        return int(text)

    return parse
