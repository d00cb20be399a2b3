"""A chatroom over TCP: anyone with `nc` can join.

A running server is called a room. The room is a log: every message is rendered once
and appended once to a log in memory that all workers share. A client is a cursor in
that log: a worker sends a client the part of the log between the client's cursor and
the head, without the client's own messages.

In reading order:

    protocol/      pure functions: turn a member's bytes into messages with prefixes
    log/           the room's log, and the members' slots, in shared memory
    worker/        a process that serves members: reads, appends, delivers, recovers
    supervisor/    the main process: accepts, admits, assigns, supervises
    sidecars/      optional processes: transcript, metrics, web gateway, a cluster's bridge
    control/       the control socket, through which commands reach the main process
    config/        the settings of a room, and their sources
    system/        the operating system: sockets, channels, memory, signals
    cli/           the commands that start a room or a web gateway, show a room's status
                   and administer it
    client/        the client for a terminal
    status.py, admin.py, web.py   entry points of python -m chatroom.status and so on
    arguments.py   converters and parser of all command lines
    build.py       the build that is running: compiled, or pure Python
    errors.py      errors that prevent a room from running
    logs.py        the log of events
    wording.py     numbers, texts and times in messages to people

A folder imports only from layers below it: docs/architecture.md shows the layers.
"""

__version__ = "0.1.0"
