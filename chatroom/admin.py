"""`python -m chatroom.admin`: kick, ban, and send messages as the room."""

import signal


def main() -> None:
    # A Ctrl-C ends the process without a traceback, also during the imports.
    signal.signal(signal.SIGINT, signal.SIG_DFL)

    from chatroom.cli import admin

    admin.main()


if __name__ == "__main__":
    main()
