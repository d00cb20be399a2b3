"""The main process: it accepts, admits and assigns members, and supervises every other process.

In reading order:

    supervisor.py      `run`: make the parts, lead the room from phase to phase, handle signals
    acceptor.py        `Acceptor._on_connection`: make a member of a connection, or refuse it
    pending.py         connections through a trusted proxy, until their PROXY header arrives
    registry.py        `Registry`: the directory of members, in a separate process
    registry_process.py  `RegistryProcess`: start, call and replace that process
    registry_manager.py  the `multiprocessing` manager that transports these calls
    members.py         `Members`: the members, and a dup of each member's socket
    sources.py         `Sources`: numbers of sources, which share the room's rate
    assignment.py      `Assignment`: assign members to workers, also after a death
    placement.py       `place`, `rebalance`: choose workers by their loads
    pool.py            `WorkerPool`: start, watch and replace workers
    child.py           `Child`: one process, from its start until it is reaped
    watchdog.py        find processes that make no progress
    console.py         print the conversation
    transcript.py      the process that writes the transcript
    metrics.py         the process that serves metrics
    cluster.py         the process that connects the nodes of a cluster: the bridge
    web.py             `Gateways`: the processes that serve a page for browsers
    session_moves.py   `SessionMoves`: pass a browser's session from one gateway to another
    web_alone.py       the main process of `python -m chatroom.web`, without a room
    room_voice.py      the room's own lines to all members
    progress.py        how far each member lags
    status_report.py   the report that chatroom.status shows
    admin_commands.py  kick, ban, unban, say
    counters.py        totals since the room began

One event loop (system/event_loop.py) runs everything except the console's thread. Messages do not
pass through the main process. docs/architecture.md follows a join and a worker's death in the code.
"""
