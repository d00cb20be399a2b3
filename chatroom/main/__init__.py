"""What the main process does for its room: lets people in, has workers serve them, prints.

In reading order:

    acceptor.py   lets newcomers in, and keeps a dup of every member's socket
    proxies.py    … and those for whom a proxy comes
    crew.py       starts workers, watches them (watchdog.py), replaces the dead
    handover.py   hands members to them: newcomers, and the orphans of the dead
    console.py    prints what is said: one more cursor
    tally.py      counts what happens seldom
"""
