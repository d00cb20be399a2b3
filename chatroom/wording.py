"""Numbers in sentences for people."""


def counted(number: int, noun: str, plural: str = "") -> str:
    """Return a number with its noun, such as `1 member` or `1,200 members`.

    `plural`: plural of the noun, if it is more than an added s.
    """
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"
