"""Errors that are not the code's. The type of an error says whose fault it is.

Every message is one line that names the thing at fault; `cli/server.py` prints it
and ends with `exit_code`. What a *client* does is never an error: it is
handled where it is met (worker/, supervisor/acceptor.py) and costs at most that client.
"""


class ChatroomError(Exception):
    """The server can't run, or can't go on, for a reason that its owner can remove."""

    exit_code = 1


class ConfigError(ChatroomError):
    """The configuration file can't be read; or it, a variable or an option says what can't be."""

    exit_code = 2


class ListenError(ChatroomError):
    """An address or a path can't be listened on, or what a service manager hands over is no
    listener: it does not resolve, is taken, or is not permitted."""


class RunDirError(ChatroomError):
    """The private folder can't be made or used, or no room is found by it."""


class MetricsError(ChatroomError):
    """The library that --metrics needs is not installed."""


class BansError(ChatroomError):
    """The file of bans can't be read or written, or holds what is none."""


class LimitError(ChatroomError):
    """The machine grants this process too little: descriptors, memory or threads."""


class RegistryError(ChatroomError):
    """The registry's process can't start, or dies as often as it is started."""


class WorkerError(ChatroomError):
    """A worker ended before it was ready to serve; the message carries its own error."""
