"""``python -m harness bench``: time chat servers side by side.

In reading order; a module uses only those above it:

- `dialects`   the protocol of each server, and the shape of a delivered line (pure)
- `payload`    the lines, the bytes that each client must receive, and the check (pure)
- `clients`    the connections of the load generator, in one process
- `open_loop`  messages on a fixed schedule, and their latencies
- `load`       the load generator: a process that receives one job and prints one result
- `servers`    the servers, and how to start each
- `plain`      a short script, as a user would write a server
- `nodes`      an engine and several nodes, which are one server: a cluster
- `pubsub`     a node, as a user would write it, for a cluster by Redis or NATS
- `floor`      a minimal server, which shows the cost of everything but a server's logic
- `trial`      one measurement of one server under one workload; the order of all trials
- `report`     medians, ratios, tables (pure)
- `plot`       the plot (pure)

**Method.** *crowd N*: all N clients send one line of 64 bytes at the same time; the next round
begins when all have received all lines. *solo N*: one of N clients sends one line, and the next one
when all others have received it. Nothing is pipelined, so a solo shows the cost of a single
message. *stream N*: one of N clients sends 16,384 lines as fast as it can; the next round begins
when all others have received them. The load generator is one process with one loop. It starts its
clock before the first ``send`` and stops it after the ``recv`` that completes the last round.

*latency N*: the deliveries per second of solo N are the server's capacity. Then the clients send in
turn, at equal intervals, on a fixed schedule, first at a tenth of the capacity and then at half of
it. A latency counts from the time at which the line was due. A figure is marked with ? if, in any
repetition, the same percentile of the load generator's own delay is more than a quarter of it. With
``--pace N``, all servers have the same rate, N lines per second, so that their latencies can be
compared. *idle N*: N clients join and stay silent. *start*: the time from the start of the command
until the server prints that it is ready.

**Processor time.** ``CPU µs/message`` is the processor time, user and system, of all processes of
the server during the timed part, divided by the lines that clients sent. The kernel counts it in
nanoseconds. Other programs raise it (caches are cold more often), but less than they lower the
rates, so it is the steadiest figure on a busy machine.

**Counting.** Deliveries to other clients count: N·(N-1) in a round of a crowd, N-1 in a
round of a solo. In each round, every client must receive an exact number of bytes, computed
beforehand. If it receives fewer or more, or is disconnected, the run has failed and shows no
figure. The bytes themselves are checked in a round before the timed part and in one after
it. Of the timed part, one client per round is checked, after the clock has stopped.

**Fairness.** All clients use TCP_NODELAY and one connection each. Redis is used with
RESP3, in which one connection may both subscribe and publish, and with the replies to
PUBLISH turned off (CLIENT REPLY OFF). It still sends a message to its publisher. These
messages are read and checked but not counted, so Redis does N/(N-1) of the counted work (1 %
more at 100 clients). NATS leaves them out (``echo: false``). Both need more bytes per line
than ``<IP>``; that is the cost of their protocols and is not corrected. ncat leaves Nagle's
algorithm on. So in a crowd, the second line to each client waits until the client's kernel
has acknowledged the first, some 40 ms per round: nearly all of ncat's time at 10 clients,
about two fifths at 100, one percent at 900. Its users wait as long.

**Clusters** (``--cluster N``). A cluster is one server with several addresses: its processes are
those of the engine and of all nodes, and its clients connect to the nodes in turn. So (N-1)/N of
the deliveries are to another node than the sender's. In the room, a message passes through the
engine even to a member at the same node, so all deliveries count as those between nodes.
plain-redis and plain-nats do less: they deliver at most once, and the order of plain-nats differs
between nodes.

**The floor** is listed with the servers: see `floor`. The column ``floor is`` shows how much
faster it is than a server, and so how much time the server could save at most.

**Accuracy.** Servers take turns within each repetition, so that other work on the machine
affects all of them, and ratios are taken within a repetition. The load generator shares the
machine with the server. ``load busy`` is the share of the timed part for which the generator
used a processor. Near 100 %, the server may be faster than the figure.
"""
