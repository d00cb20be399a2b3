"""Entry point of `python -m harness`, and of the installed command `chatroom-harness`."""

import signal
import sys


def main() -> int:
    # Until a command handles signals, a Ctrl-C ends the process without a traceback.
    signal.signal(signal.SIGINT, signal.SIG_DFL)

    from harness.cli.main import main as run

    return run()


if __name__ == "__main__":
    sys.exit(main())
