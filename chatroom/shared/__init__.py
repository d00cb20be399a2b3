"""What the processes of a room have in common.

memory.py and doorbell.py are the means, log.py the room itself, slots.py what it takes to go on
with a member, registry.py the directory of who is in it.
"""
