"""Errors of the system, as text for users."""

import os
import socket


def error_text(error: Exception) -> str:
    """Return the reason of an error, without its number; empty if it is unknown.

    asyncio replaces the system's text for a failed connection by one for programmers, so the text
    comes from the number. The numbers of a gaierror are not those of `errno`.
    """
    number = getattr(error, "errno", None)
    if number and not isinstance(error, socket.gaierror):
        return os.strerror(number)
    return str(error.args[-1]) if error.args else ""
