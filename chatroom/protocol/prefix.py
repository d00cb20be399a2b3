"""The prefix before each of a sender's messages (PREFIX-1). Its form is an option of the room."""

from string import Formatter

FORM = "<{ip}>"
"""Default form, as in PROTOCOL.md."""

NAMES = ("ip", "port", "id")
"""Names that a form may hold in braces: the sender's address, port and id in the room. `{{` and
`}}` stand for braces."""

_LONGEST = {"ip": "f" * 39, "port": "9" * 5, "id": "9" * 20}


def prefix(form: str, ip: str, port: int, id: int) -> str:
    """Return the prefix of a sender.

    `ip` is a canonical address; `form` must have passed `check`.
    """
    return form.format(ip=ip, port=port, id=id)


def check(form: str) -> None:
    """Raise ValueError, with a description of valid forms, if `form` is invalid."""
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
        raise ValueError(f"text without control characters; it may hold {names}")


def longest(form: str) -> int:
    """Return the size in bytes of the longest prefix of this form."""
    return len(form.format(**_LONGEST).encode())
