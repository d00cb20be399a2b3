"""The memory that the processes of a room share.

ring.py       the room's log: a ring of rendered messages and their entries
origin.py     what an entry says of its sender besides the id
follower.py   reads the log without its lock, and knows what it has missed
slots.py      one slot for each member: what another worker needs to go on with it
"""
