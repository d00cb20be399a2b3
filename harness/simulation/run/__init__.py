"""Runs: the execution of a plan against a target, and the record of its events.

The modules, in reading order. A module imports only modules above it:

    gates.py         the times at which a faulty network passes bytes on (pure): `gates`
    progress.py      the progress of a run, on standard error: `live`
    child.py         the processes that a run starts: `spawn`
    direction.py     one direction of a connection through the faulty network: `Direction`
    network.py       the faulty network, a process between clients and target: `Network`
    proxy.py         starts and ends the process of the faulty network: `Proxy`
    recorder.py      writes the events of a driver's clients: `Recorder`
    driver.py        a driver: a process with one loop and a share of the clients: `Driver`
    drivers.py       starts and ends the drivers: `Drivers`
    startup.py       waits until a first client has joined: `await_first_client`
    faults.py        faults of the target: kills, stops and restarts processes: `FaultInjector`
    run.py           starts and ends all of these, and merges their records: `Run`
"""
