"""Entry point of `python -m chatroom` and of the installed command `chatroom`."""

import signal


def main() -> None:
    # Until the room handles signals, a Ctrl-C ends the process without a traceback. Signals that
    # must not stop a room are blocked: by default, they would end or stop the process.
    signal.signal(signal.SIGINT, signal.SIG_DFL)

    from chatroom.system.signals import HANDLED_SIGNALS, STOP_SIGNALS

    signal.pthread_sigmask(signal.SIG_BLOCK, {*HANDLED_SIGNALS} - {*STOP_SIGNALS})

    from chatroom.cli import server

    try:
        server.main()
    finally:
        # Block the signals first: when Python exits, it restores the default action of each signal.
        signal.pthread_sigmask(signal.SIG_BLOCK, HANDLED_SIGNALS)


if __name__ == "__main__":
    main()
