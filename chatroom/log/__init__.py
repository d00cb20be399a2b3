"""The memory that the processes of a room share.

ring.py       the room's log: a ring of rendered messages and their entries
origin.py     the sender's address in an entry, packed
follower.py   a reader of the log that takes no lock and counts missed messages
history.py    places in the log at which earlier messages begin, for new members
uplink.py     in a cluster, the log of the messages that are not published yet
room_rate.py  the rate limit of the room, and each source's share of it
slots.py      one slot for each member: the state that another worker needs to take it over
"""
