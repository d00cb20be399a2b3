"""`python -m chatroom.admin`: kick, ban, and speak in the room."""

from chatroom.cli.admin import main

__all__ = ["main"]

if __name__ == "__main__":
    main()
