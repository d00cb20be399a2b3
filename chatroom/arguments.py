"""What the command lines of this package have in common."""

import argparse
from typing import NoReturn


class Parser(argparse.ArgumentParser):
    """Says in one line what is wrong with an argument, and exits with 2."""

    def error(self, message: str) -> NoReturn:
        line = " ".join(message.splitlines())  # an argument may hold more than one
        self.exit(2, f"{self.prog}: {line} (--help shows the usage)\n")
