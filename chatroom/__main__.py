"""`python -m chatroom`, or `chatroom` where it is installed."""

import signal


def main() -> None:
    # Until the room handles signals, a Ctrl-C ends the process without a traceback.
    signal.signal(signal.SIGINT, signal.SIG_DFL)

    from chatroom.cli import server

    server.main()


if __name__ == "__main__":
    main()
