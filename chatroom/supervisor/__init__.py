"""The main process: it accepts, admits and assigns members, and supervises every other process.

In reading order:

    supervisor.py      `run`: make the parts, lead the room from phase to phase, handle signals
    acceptor.py        `Acceptor._on_connection`: accept, and make a member or refuse it
    pending.py         connections through a trusted proxy, until their PROXY header has come
    registry.py        the directory of members, in a process of its own
    members.py         `Members`: the members, and a dup of each one's socket
    assignment.py      `Assignment`: which worker serves which member; what follows a death
    pool.py            `WorkerPool`: start, watch and replace workers
    child.py           `Child`: one process, from its start until it is reaped
    watchdog.py        which processes make no progress
    console.py         print the conversation
    transcript.py      the process that writes the transcript
    metrics.py         the process that serves metrics
    status_report.py   what chatroom.status shows
    admin_commands.py  kick, ban, unban, say
    counters.py        numbers that only grow, for both

One event loop (system/event_loop.py) calls all of it, but for the console's thread. A message
passes none of it; a join and a worker's death are followed in docs/architecture.md.
"""
