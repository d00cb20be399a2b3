"""The room's log of events, one line each, readable for people and programs.

    2026-11-25T10:00:00.123Z level=warning event=worker-died worker=1 exit=-9 says="it is …"

It uses the standard `logging`: `logger.warning(Event("worker-died", worker=1, exit=-9))`. Values
that are not plain text are quoted as JSON strings, so no value can end its line or look like
another field. Members' messages are never logged.
"""

import json
import logging
import re

from chatroom.wording import stamp

_PLAIN = re.compile(r"[^\s\"'=\\]+")


class Event:
    """An event: a stable name and fields.

    `says`: explanation and advice for people; its text may change between versions.
    """

    __slots__ = ("fields", "name", "says")

    def __init__(self, name: str, says: str = "", /, **fields: object) -> None:
        self.name = name
        self.says = says
        self.fields = fields

    def all(self) -> dict[str, object]:
        """Return the name and the fields, in the order of the log line."""
        says = {"says": self.says} if self.says else {}
        return {"event": self.name, **self.fields, **says}

    def __str__(self) -> str:
        return format_fields(self.all())


def format_fields(fields: dict[str, object]) -> str:
    """Return ``key=value`` for each field, separated by spaces."""
    return " ".join(f"{key}={format_value(value)}" for key, value in fields.items())


def format_value(value: object) -> str:
    """Return a value in the notation of a log line."""
    match value:
        case None:
            return "-"
        case bool():
            return "true" if value else "false"
        case float():
            return f"{value:g}"
        case list() | tuple():
            value = ",".join(map(str, value))
    text = str(value)
    if text.isprintable() and _PLAIN.fullmatch(text):
        return text
    quoted = json.dumps(text, ensure_ascii=False)
    return "".join(
        character if character.isprintable() else json.dumps(character)[1:-1]
        for character in quoted
    )


class Formatter(logging.Formatter):
    """Formats log records. A message of another library becomes the event "other"."""

    def __init__(self, form: str) -> None:
        """`form`: a value of --log-format (config/options.py)."""
        super().__init__()
        self._json = form == "json"

    def format(self, record: logging.LogRecord) -> str:
        fields: dict[str, object] = {"level": record.levelname.lower()}
        if isinstance(record.msg, Event):
            fields |= record.msg.all()
        else:
            fields |= {"event": "other", "logger": record.name, "says": record.getMessage()}
        if record.exc_info:
            fields["exception"] = self.formatException(record.exc_info)
        if self._json:
            return json.dumps({"time": stamp(record.created), **fields}, default=str)
        return f"{stamp(record.created)} {format_fields(fields)}"
