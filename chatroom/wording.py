"""Numbers, texts and times for messages to people."""

from time import gmtime, strftime


def counted(number: int, noun: str, plural: str = "") -> str:
    """Return a number with its noun, such as `1 member` or `1,200 members`.

    `plural`: plural of the noun, if it is not formed by an added s.
    """
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def shown(text: str) -> str:
    """Return a text quoted for an error, shortened to 60 characters."""
    return repr(text if len(text) <= 60 else text[:57] + "...")


def stamp(seconds: float) -> str:
    """Return seconds since the epoch as ISO 8601, in UTC, with milliseconds."""
    whole, microseconds = divmod(round(seconds * 1_000_000), 1_000_000)
    return strftime("%Y-%m-%dT%H:%M:%S", gmtime(whole)) + f".{microseconds // 1000:03}Z"
