"""A chatroom over TCP: anyone with `nc` can join.

The room is a log: every message is rendered once and appended once to a log in
memory that all workers share. A client is a cursor in that log: to deliver is
to send it what lies between its cursor and the head, less its own.

In reading order:

    protocol/        pure: what a member sends becomes safe, prefixed messages
    shared/log.py    the room's log
    worker/          one process that serves members: reads, appends, delivers
    acceptor.py      the main process admits newcomers and hands them to workers
    supervisor.py    … and starts, watches and stops the other processes
    shared/          also: the registry, doorbells, memory without a name
    net/             listening, handing sockets over, descriptors
    console.py       what the main process prints: one more cursor
    signals.py       those that stop a room, and who is kept from them
    cli.py client/   what a person runs, with arguments.py
    settings.py      what a room can be set to, and what follows from it
    errors.py        what keeps a room from running
"""

__version__ = "0.1.0"
