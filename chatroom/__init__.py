"""A chatroom over TCP: anyone with `nc` can join.

The room is a log: every message is rendered once and appended once to a log in
memory that all workers share. A client is a cursor in that log: to deliver is
to send it what lies between its cursor and the head, less its own.

In reading order:

    protocol/        pure: what a member sends becomes safe, prefixed messages
    shared/log.py    the room's log
    worker/          one process that serves members: reads, appends, delivers
    acceptor.py      the main process admits newcomers
    proxies.py       … and those for whom a proxy comes
    crew.py          … starts workers, watches them, replaces the dead
    handover.py      … and hands members to them: newcomers, and the orphans of the dead
    supervisor.py    … from the room's start to its end
    worker/recovery.py   how a worker goes on, to the byte, where another one stopped
    shared/          also: slots, the registry, doorbells, memory without a name
    net/             listening, handing sockets over, what the kernel counts
    service.py       the service manager that has started the room, if one has
    watchdog.py      which workers make no progress
    console.py       what the main process prints: one more cursor
    control.py       how the room's owner asks and tells it, while it runs
    overview.py      … what there is to tell of it, with tally.py
    moderation.py    … who is put out, with bans.py, and what the room itself says
    transcript/      … and how all that is said comes into a file
    run_dir.py       … and where it is found
    metrics.py       … and what Prometheus reads of it
    signals.py       those that a room heeds, and who is kept from them
    cli.py client/ status.py admin.py   what a person runs, with arguments.py
    endpoint.py      where a room is reached, and networks.py who reaches it
    config.py        who says what a room is set to: the command line, variables, a file
    files.py         files that its owner names
    settings.py      what a room can be set to, and what follows from it
    errors.py        what keeps a room from running
    logs.py          what it logs
"""

__version__ = "0.1.0"
