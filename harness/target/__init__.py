"""The server under test.

target.py       a server that is started from a command, or reached at an address
processes.py    starts a server process, waits until it is ready, measures its memory, ends it
roles.py        workers, engines and bridges among a server's processes
orphans.py      makes this process the parent of daemons that a server leaves behind
crash.py        finds the message of a crash in a server's output
listeners.py    finds the sockets that listen at a port, and the sockets of a process
interrupts.py   ends a command, and all that it has started, when it is interrupted
"""
