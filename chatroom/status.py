"""`python -m chatroom.status`: show a local room's status."""

import signal


def main() -> None:
    # A Ctrl-C ends the process without a traceback, also during the imports.
    signal.signal(signal.SIGINT, signal.SIG_DFL)

    from chatroom.cli import status

    status.main()


if __name__ == "__main__":
    main()
