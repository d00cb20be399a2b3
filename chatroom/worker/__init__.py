"""One process that serves members. One event loop, no thread.

    member.py     what a worker holds of one member
    delivery.py   what lies between each member's cursor and the head goes out
    allowance.py  who has said too much is read from later
    recovery.py   how it goes on with members that another worker has served
    loop.py       wait, read, append, deliver, adopt: one turn after another
    process.py    how a worker begins and ends

It has nothing that can't be found again when it is killed: the log has what was
said, the kernel counts what each socket has taken and given, and the slots hold
what was read and is not in the log yet.
"""
