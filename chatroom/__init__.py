"""A chatroom over TCP: anyone with `nc` can join.

The room is a log: every message is rendered once and appended once to a log in
memory that all workers share. A client is a cursor in that log: to deliver is
to send it what lies between its cursor and the head, less its own.

In reading order:

    protocol/      pure: a member's bytes become framed, sanitised, prefixed messages
    log/           the room's log, and the members' slots, in shared memory
    worker/        one process that serves members: reads, appends, delivers, recovers
    supervisor/    the main process: accepts, admits, assigns, supervises
    sidecars/      optional processes that follow the log
    control/       how commands on the same machine reach the main process
    config/        the settings of a room, and where they are read from
    system/        sockets, channels, memory, signals: what the operating system offers
    cli/           the commands: start a room, show its status, administer it
    client/        the client for a terminal
    arguments.py   what all command lines have in common
    errors.py      what keeps a room from running
    logs.py        the events that a room logs

A folder uses those below it and never those above: see docs/architecture.md.
"""

__version__ = "0.1.0"
