"""``python -m harness bench``: time chat servers side by side.

The modules, in reading order. A module imports only modules above it:

- `dialects`   the protocol of each server, and the shape of a delivered line (pure)
- `payload`    the lines, the bytes that each client must receive, and the check (pure)
- `clients`    the connections of the load generator, in one process
- `open_loop`  messages on a fixed schedule, and their latencies
- `load`       the load generator: a process that receives one job and prints one result
- `servers`    the servers, and how to start each
- `plain`      a short script, as a user would write a server
- `nodes`      an engine and several nodes, which together are one server: a cluster
- `pubsub`     a node as a user would write it, for a cluster that Redis or NATS connects
- `floor`      a minimal server; it shows the cost of everything except a server's logic
- `trial`      one measurement of one server under one workload; the order of all trials
- `report`     medians, ratios, tables (pure)
- `plot`       the plot (pure)

**Method.** *crowd N*: in each round, all N clients send one line of 64 bytes at the same time. The
next round begins when every client has received every line. *solo N*: in each round, the same one
of N clients sends one line. The next round begins when all other clients have received the line.
No line is sent before the previous round has ended, so a solo shows the cost of a single message.
*stream N*: in each round, the same one of N clients sends 16,384 lines as fast as it can. The next
round begins when all other clients have received all these lines. The load generator is one process
with one loop. Its clock starts before the first ``send`` and stops after the ``recv`` that
completes the last round.

*latency N*: first, a solo N measures the server's capacity, in deliveries per second. Then the
clients send in turn, at equal intervals, on a fixed schedule: first at a tenth of the capacity,
then at half of the capacity. With ``--pace N``, they send N lines per second instead, the same for
all servers, so that the latencies of the servers can be compared. A latency is the time from the
moment at which a line was due until a client has received the line. The load generator may itself
send a line late. This delay is measured, too. A latency is marked with ``?`` if, in any repetition,
the delay at the same percentile is more than a quarter of the latency. *idle N*: N
clients join and send nothing. *start*: the time from the start of the server's command until the
server prints that it is ready.

**Processor time.** ``CPU µs/message`` is the processor time, user and system, of all processes of
the server during the timed part, divided by the number of lines that clients sent. The kernel
counts processor time in nanoseconds. Other programs on the machine raise this figure, because
caches are cold more often. They change the rates even more, so this figure varies least on a busy
machine.

**Counting.** Only deliveries to other clients count: N·(N-1) in a round of a crowd, N-1 in a
round of a solo. Every client must receive a known number of bytes in each round. If a client
receives fewer or more bytes, or is disconnected, the run has failed and has no figure. The
received bytes themselves are compared in a round before the timed part, and in a round after it.
In the timed part, only the bytes of one client per round are compared, after the clock has
stopped.

**Fairness.** All clients use TCP_NODELAY, and one connection each. Redis is used with RESP3, in
which one connection may both subscribe and publish. The replies to PUBLISH are turned off (CLIENT
REPLY OFF), but Redis still sends each message back to its publisher. The load generator reads and
checks these messages, but does not count them. So Redis does N/(N-1) times the counted work: 1 %
more at 100 clients. nats-server is told not to send messages back (``echo: false``). Both protocols
need more bytes per line than the prefix ``<IP>`` of the chatroom; this is not corrected. ncat
leaves Nagle's algorithm on. So in a crowd, the second line to each client waits until the client's
kernel has acknowledged the first line. This takes about 40 ms per round: nearly all of ncat's time
at 10 clients, about two fifths at 100 clients, one percent at 900 clients. Users of ncat experience
the same delay.

**Clusters** (``--cluster N``). A cluster is one server with several addresses. The processes of the
engine and of all nodes are the server's processes, and the clients connect to the nodes in turn. So
(N-1)/N of the deliveries go to another node than the sender's. In the chatroom, a message passes
through the engine even if the recipient is at the sender's node, so every delivery costs as much as
a delivery between nodes. plain-redis and plain-nats promise less: they deliver a message at most
once, and with plain-nats the order of the messages differs between nodes.

**The floor** is listed with the servers: see `floor`. The column ``floor is`` shows how much
faster the floor is than a server, and so how much time the server could save at most.

**Accuracy.** Servers take turns within each repetition, so that other work on the machine
affects all of them. Ratios are computed within a repetition. The load generator runs on the same
processors as the server. ``load busy`` is the share of the timed part for which the generator
used a processor. If this share is near 100 %, the server may be faster than its figure.
"""
