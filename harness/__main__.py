"""`python -m harness`, or `chatroom-harness` where it is installed."""

import signal
import sys


def main() -> int:
    # Until a command handles signals, a Ctrl-C ends the process without a traceback.
    signal.signal(signal.SIGINT, signal.SIG_DFL)

    from harness.cli.main import main as run

    return run()


if __name__ == "__main__":
    sys.exit(main())
