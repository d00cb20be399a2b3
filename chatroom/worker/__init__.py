"""One process that serves members. One event loop, no thread.

The parts, each with the function by which it is entered:

    process.py     beginning and end of the process: main
    seat.py        what a worker shares with the others: Seat
    loop.py        one turn after another: Worker.run
    input.py       reading members into a batch of messages: Input.read
    allowance.py   how much is read from each member: Allowance.spend
    delivery.py    sending the log to members: Delivery.deliver
    membership.py  members that come, move and leave: Membership.adopt, Membership.remove
    recovery.py    finding out how far a member had come that another worker served: Past.of
    member.py      what a worker holds of one member: Member
    shutdown.py    the end of it, without loss: Shutdown.drain, Shutdown.stop

A turn is `Worker._turn`:

    wait             until a member can be read from or written to, or the main process asks
                     for something; members that were behind are sent more at once
    read             from each readable member, into the batch; texts that no LF has followed
                     for long enough too
    append           the batch, with the log's lock, and look at the head
    deliver          all before the head to all members that are level, and ring other workers
    disconnect       members that lag too far
    note             where the members stand, if it is time, in their slots
    make room        if a worker waits for that: let the log know what was delivered
    adopt            connections that the main process has handed over
    report           to the main process: members yielded, served, and gone

Data flows that way and never back: what a part returns, the loop hands to the next one. A
member leaves by `Membership.remove` wherever its end was noticed.

Where the log has no room for a batch (the slowest worker is waited for), the worker keeps the
batch and reads nothing more; it goes on delivering meanwhile.

A worker has nothing that can't be found again when it is killed: the log has what was said, the
kernel counts what each socket has taken and given, and the slots hold what was read and is not in
the log yet.
"""
