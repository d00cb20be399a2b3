"""Errors that come from the room's environment, not from its code: one class for each cause.

A message is one line that names the cause; `cli/server.py` prints the message and exits with
`exit_code`. Nothing that a *client* does raises such an error: the worker or the acceptor handles
the client's behaviour, and at most that client is disconnected.
"""


class ChatroomError(Exception):
    """The room can't run or continue. The room's owner can remove the cause."""

    exit_code = 1


class ConfigError(ChatroomError):
    """A setting is wrong (file, environment or command line), or the file can't be read."""

    exit_code = 2


class ListenError(ChatroomError):
    """An address or path does not resolve, is in use or is not permitted, or a descriptor from the
    service manager is not a listening socket."""


class RunDirError(ChatroomError):
    """The run-dir can't be made or used, or no running room is found in it."""


class MetricsError(ChatroomError):
    """The library for --metrics is not installed."""


class ClusterError(ChatroomError):
    """The NATS servers of --cluster or their stream can't be used, or nats-py is not installed."""


class WebError(ChatroomError):
    """The web gateway can't run: websockets is not installed, the certificate is wrong, or no room
    answers."""


class BansError(ChatroomError):
    """The file of bans can't be read or written, or is not a list of networks."""


class LimitError(ChatroomError):
    """The system grants too few descriptors or threads, or too little memory."""


class RegistryError(ChatroomError):
    """The registry's process can't be started, or keeps dying."""


class WorkerError(ChatroomError):
    """A worker ended before it was ready; the message includes the worker's own error."""
