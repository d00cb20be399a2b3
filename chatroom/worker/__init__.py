"""One process that serves members. One event loop, no thread.

    member.py     what a worker holds of one member
    delivery.py   what lies between each member's cursor and the head goes out
    loop.py       wait, read, append, deliver, adopt: one turn after another
    process.py    how a worker begins and ends

What it alone has is the input that it has read and not appended yet.
"""
