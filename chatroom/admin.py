"""`python -m chatroom.admin`: kick, ban, and send messages as the room."""

from chatroom.cli.admin import main

__all__ = ["main"]

if __name__ == "__main__":
    main()
