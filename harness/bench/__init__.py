"""``python -m harness bench``: time chat servers side by side.

In reading order; a module never uses one below it:

- `dialects`   the protocol of each server, and the shape of a delivered line (pure)
- `payload`    the lines, the bytes that each client must receive, and the check (pure)
- `clients`    the connections of the load generator, in one process
- `open_loop`  messages on a fixed schedule, and their latencies
- `load`       the load generator: a process of its own, which gets one job and prints one result
- `servers`    the servers, and how to start each
- `floor`      the cost of a server that has nothing to do
- `trial`      one server, one workload, one result; the order of all trials
- `report`     medians, ratios, tables (pure)
- `plot`       the plot (pure)

**Method.** *crowd N*: each of N clients sends one line of 64 bytes at once; the next
round begins when all have received all. *solo N*: one of N clients sends one line, and
the next one when the others have received it. Nothing is pipelined, so it shows the cost
of a single message. The load generator is one process with one loop. It starts its clock
before the first ``send`` and stops it after the ``recv`` that completes the last round.

*latency N*: the deliveries per second of a solo are the server's capacity. Then the
clients speak in turn, at equal intervals, on a fixed schedule, so that a tenth of the
capacity is delivered, and then half of it. Each delivery is timed from when its line was
due. A figure is marked with ? if more than a quarter of it may be the load generator's own
delay: if in any repetition the same percentile of its delay is more than that.
*idle N*: N clients join and stay silent.

**Counting.** Deliveries to other clients count: N·(N-1) in a round of a crowd, N-1 in a
solo's. In each round, every client must receive an exact number of bytes, computed
beforehand. After fewer, more, a disconnect or silence, the run has failed and shows no
figure. The bytes themselves are checked in a round before and one after the timed part;
in the timed part, they are checked for one client per round, after the clock has stopped.

**Fairness.** All clients use TCP_NODELAY and one connection each. Redis is used with
RESP3, in which one connection may both subscribe and publish, and with the replies to
PUBLISH turned off (CLIENT REPLY OFF). It still sends a message to its publisher: these
are read and checked but not counted, so Redis does N/(N-1) of the work that it is
credited with (1 % more at 100 clients). NATS can leave them out (``echo: false``), and
does. Both need more bytes per line than ``<IP>``; that is the cost of their protocols and
is not corrected. ncat leaves Nagle's algorithm on. So in a crowd each client's second
line waits until its kernel has acknowledged the first, some 40 ms per round: nearly all
of ncat's time at 10 clients, about two fifths at 100, one percent at 900. Its users wait
as long.

**The floor** stands beside the servers, but is not one: see `floor`. ``floor is`` shows
how much faster it is than a server: how much of its time the server could save at most.

**Accuracy.** Servers take turns within each repetition, so that a noisy minute affects
all alike, and ratios are taken within a repetition. The load generator shares the machine
with the server. ``load busy`` is its processor time in the timed part: near 100 %, the
server may be faster than the figure.
"""
