"""The operating system: sockets, channels, memory, signals, addresses.

listening.py      listening sockets
endpoint.py       addresses at which a room listens
error_text.py     errors as text for users
networks.py       addresses and networks of clients and proxies
channel.py        records and descriptors between two processes
poller.py         events that a worker or another child waits for
event_loop.py     sources and timers of the main process
accepting.py      accept connections; pause when descriptors run out
spawn.py          spawn a process with one end of a channel; reap orphans
doorbell.py       wake another process
memory.py         anonymous shared memory
tcp_counters.py   the kernel's counts of a connection's bytes
descriptors.py    the limit of open files
files.py          read files that the room's owner names
signals.py        the signals that a room handles
systemd.py        socket activation and notification
"""
