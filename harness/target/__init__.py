"""The server under test.

target.py       a server that is started from a command, or reached at an address
processes.py    start a process, hear that it is ready, weigh it, end it
listeners.py    which process listens at a port
interrupts.py   end a command, and all that it has started, when it is interrupted
"""
