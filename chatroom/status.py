"""`python -m chatroom.status`: show a local room's status."""

from chatroom.cli.status import main

__all__ = ["main"]

if __name__ == "__main__":
    main()
