"""`python -m chatroom.client HOST PORT`."""

import sys

from chatroom.client import main

if __name__ == "__main__":
    sys.exit(main())
