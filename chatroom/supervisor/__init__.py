"""The main process: it accepts, admits and assigns members, and supervises every other process.

In reading order:

    supervisor.py      the room from its start to its end
    acceptor.py        accept and admit clients; keep a duplicate of every member's socket
    pending.py         connections through a trusted proxy, until their PROXY header has come
    registry.py        the directory of members, in a process of its own
    assignment.py      which worker serves which member: newcomers, a dead worker's members, balance
    pool.py            start, watch and replace workers
    watchdog.py        which processes make no progress
    console.py         print the conversation
    transcript.py      the process that writes the transcript
    metrics.py         the process that serves metrics
    status_report.py   what chatroom.status shows
    admin_commands.py  kick, ban, unban, say
    counters.py        numbers that only grow, for both
"""
