"""What stands before each of a sender's messages (PREFIX-1), in the form that a room gives it."""

from string import Formatter

FORM = "<{ip}>"
"""The protocol's."""

NAMES = ("ip", "port", "id")
"""What a form may hold, in braces: the sender's address and port, and the number that it has in
this room. `{{` and `}}` are braces."""

_LONGEST = {"ip": "f" * 39, "port": "9" * 5, "id": "9" * 20}


def prefix(form: str, ip: str, port: int, id: int) -> str:
    """The prefix of the sender at a canonical address; `form` must have passed `check`."""
    return form.format(ip=ip, port=port, id=id)


def check(form: str) -> None:
    """Raises ValueError, with what a form has to be, where it is none."""
    try:
        parts = [*Formatter().parse(form)]
    except ValueError:
        parts = [("", "", "", "")]
    known = all(
        name is None or (name in NAMES and not spec and not conversion)
        for _, name, spec, conversion in parts
    )
    if not (form and known and form.isprintable()):
        names = ", ".join(f"{{{name}}}" for name in NAMES)
        raise ValueError(f"text without control characters, in which {names} may stand")


def longest(form: str) -> int:
    """Bytes that a prefix of this form has at most."""
    return len(form.format(**_LONGEST).encode())
