"""Entry point of `python -m chatroom.client` and of the installed command `chatroom-client`."""

import os
import signal
import sys


def main() -> int:
    # Until the client handles signals, a Ctrl-C ends it without a traceback. A SIGINT that is
    # ignored (nohup, a shell's &) stays ignored.
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, lambda *_: os._exit(0))

    from chatroom.client.command import main as run

    return run()


if __name__ == "__main__":
    sys.exit(main())
