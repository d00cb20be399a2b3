"""Runs: a plan is played against a target, and everything is recorded.

In reading order; a module uses only those above it:

    gates.py         when a faulty network passes bytes on, without sockets (pure): `gates`
    progress.py      the progress shown meanwhile: `live`
    child.py         the processes that a run starts: `spawn`
    direction.py     bytes carried in one direction, as a gate allows: `Direction`
    network.py       the faulty network, a process between clients and target: `Network`
    proxy.py         that process, for its parent: `Proxy`
    recorder.py      events of the history, as a driver writes them: `Recorder`
    driver.py        the clients, one process with one loop; a run may have several: `Driver`
    drivers.py       these processes, for their parent: `Drivers`
    faults.py        faults of the target: processes killed, stopped, restarted: `Striker`
    run.py           the run: starts and ends all of these, merges their records: `Run`
"""
