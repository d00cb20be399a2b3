"""A worker: a process that serves members, with one event loop in one thread.

The parts, each with its entry function:

    process.py     start and end of the process: main
    seat.py        the resources that all workers share: Seat
    loop.py        one turn after another: Worker.run
    cluster_loop.py  the loop of a worker in a cluster: ClusterWorker
    input.py       reading members into a batch of messages: Input.read
    allowance.py   rate limit of each member's input: Allowance.spend
    fair_queue.py  turns of the members while the room's rate is used up: FairQueue.pop
    delivery.py    sending the log to members: Delivery.deliver
    membership.py  members that come, move and leave: Membership.adopt, Membership.remove
    recovery.py    recovering the state of a member from another worker: Recovery.state_of
    member.py      state of one member: Member
    shutdown.py    stopping without loss: Shutdown.drain, Shutdown.stop

A turn is `Worker._turn`:

    wait             until a socket is ready or the main process has sent a request; when the socket
                     of a member that is behind becomes writable, send more to the member
    read             each readable member into the batch; also flush unfinished texts whose
                     timeout is over
    gather           more messages, if several members send at the same time: read and append for a
                     short time, so that each member is sent all of them in one call
    append           the batch, under the log's lock, and read the head
    deliver          everything before the head to members that are caught up, and ring other
                     workers
    answer           members' telnet commands
    disconnect       members that lag too much
    note             the members' checkpoints in their slots, if due
    free space       in the log, if a worker waits for it: store this worker's position
    adopt            connections that the main process has handed over
    report           to the main process: members that have left, that another worker can take
                     over, or that this worker has taken over

Data flows in this order and never back: the loop hands the result of one part to the next. A member
always leaves by `Membership.remove`, whichever part has noticed that the member left.

A batch must wait if the log is full because another worker has not delivered the oldest messages
yet, or if the room's rate does not permit the batch yet. Meanwhile, the worker keeps the batch and
reads nothing more, but continues to deliver.

Another worker can recover everything that a killed worker knew: the messages are in the log, the
kernel counts the bytes that each socket sent and received, and the slots hold the input that was
read and is not in the log yet.
"""
