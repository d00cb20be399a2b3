"""The server under test.

target.py       a server that is started from a command, or reached at an address
processes.py    start a process, wait until it is ready, measure its memory, end it
listeners.py    the processes that listen at a port
interrupts.py   end a command, and all that it has started, when it is interrupted
"""
