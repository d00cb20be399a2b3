"""A chatroom over TCP: anyone with `nc` can join.

The room is a log: every message is rendered once and appended once to a log in
memory that all workers share. A client is a cursor in that log: to deliver is
to send it what lies between its cursor and the head, less its own.

In reading order:

    protocol/        pure: what a member sends becomes safe, prefixed messages
    shared/log.py    the room's log
    worker/          one process that serves members: reads, appends, delivers
    main/            the main process lets people in, and has workers serve them
    supervisor.py    … from the room's start to its end
    worker/recovery.py   how a worker goes on, to the byte, where another one stopped
    shared/          also: slots, the registry, doorbells, memory without a name
    net/             listening, handing sockets over, what the kernel counts
    owner/           what the room's owner asks it and tells it, and Prometheus reads of it
    transcript/      how all that is said comes into a file
    service.py       the service manager that has started the room, if one has
    signals.py       those that a room heeds, and who is kept from them
    cli.py client/ status.py admin.py   what a person runs, with arguments.py
    config.py        who says what a room is set to: the command line, variables, a file
    settings.py      what a room can be set to, and what follows from it
    endpoint.py      where a room is reached, and networks.py who reaches it
    files.py         files that its owner names
    errors.py        what keeps a room from running
    logs.py          what it logs
"""

__version__ = "0.1.0"
