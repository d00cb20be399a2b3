"""Runs: a plan is played against a target, and all that happens is recorded.

In reading order; a module uses only those above it:

    gates.py         what a bad network lets through, and when, without sockets (pure): `gates`
    progress.py      the progress that a person sees meanwhile: `live`
    child.py         the processes that a run starts: `spawn`
    direction.py     bytes carried in one direction, as a gate allows: `Direction`
    network.py       the bad network, in a process between the clients and the target: `Network`
    proxy.py         that process, for its parent: `Proxy`
    recorder.py      events of the history, as a driver writes them: `Recorder`
    driver.py        the clients, one process with one loop; a run may have several: `Driver`
    drivers.py       these processes, for their parent: `Drivers`
    faults.py        faults of the target: its processes are killed, stopped, restarted: `Striker`
    run.py           the run: starts all of these, ends them, merges their records: `Run`
"""
