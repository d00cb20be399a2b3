"""A chatroom over TCP: anyone with `nc` can join.

The room is a log: every message is rendered once and appended once to a log in
memory that all workers share. A client is a cursor in that log: a worker
delivers by sending the part between the client's cursor and the head, without the
client's own messages.

In reading order:

    protocol/      pure: turn a member's bytes into framed, sanitised, prefixed messages
    log/           the room's log, and the members' slots, in shared memory
    worker/        a process that serves members: reads, appends, delivers, recovers
    supervisor/    the main process: accepts, admits, assigns, supervises
    sidecars/      optional processes that follow the log
    control/       the control socket, through which commands reach the main process
    config/        the settings of a room, and their sources
    system/        the operating system: sockets, channels, memory, signals
    cli/           the commands: start a room, show its status, administer it
    client/        the client for a terminal
    arguments.py   converters and parser of all command lines
    build.py       which build is running: compiled, or pure Python
    errors.py      errors that prevent a room from running
    logs.py        the log of events
    wording.py     numbers, texts and times for people

docs/architecture.md shows the layers: each uses those below it, never those above.
"""

__version__ = "0.1.0"
