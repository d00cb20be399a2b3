"""`python -m chatroom.web`: a page on which browsers can join any room."""

import signal


def main() -> None:
    # A Ctrl-C ends the process without a traceback, also during the imports.
    signal.signal(signal.SIGINT, signal.SIG_DFL)

    from chatroom.cli import web

    web.main()


if __name__ == "__main__":
    main()
