"""Runs: the execution of a plan against a target, and its record.

In reading order; a module uses only those above it:

    gates.py         the times at which a faulty network passes bytes on (pure): `gates`
    progress.py      the progress of a run, on standard error: `live`
    child.py         the processes that a run starts: `spawn`
    direction.py     one direction of a connection through that network: `Direction`
    network.py       the faulty network, a process between clients and target: `Network`
    proxy.py         the network's process, as its parent sees it: `Proxy`
    recorder.py      writes a driver's events: `Recorder`
    driver.py        some of the clients, in one process with one loop: `Driver`
    drivers.py       the drivers, as their parent sees them: `Drivers`
    startup.py       waits until a first client is in: `await_first_client`
    faults.py        faults of the target: kills, stops and restarts processes: `FaultInjector`
    run.py           starts and ends all of these, and merges their records: `Run`
"""
