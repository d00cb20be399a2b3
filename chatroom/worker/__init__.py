"""One process that serves members. One event loop, no thread.

    member.py     what a worker holds of one member
    delivery.py   what lies between each member's cursor and the head goes out
    loop.py       wait, adopt, read, append, deliver: one turn after another
    process.py    how a worker begins and ends

All that it holds could be found again by another worker: the log has the
messages, and the kernel counts what each socket has taken and given.
"""
