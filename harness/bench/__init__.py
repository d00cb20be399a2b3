"""``python -m harness bench``: chat servers timed side by side.

In reading order; those above never use those below:

- `dialects`   how each server is spoken to, and what one delivered line looks like (pure)
- `payload`    what is said, what each client then has to hear, and the check that it did (pure)
- `clients`    the connections of the load, in one process
- `open_loop`  messages by a schedule that does not wait, and their latencies
- `load`       the load: its own process, one job in, one verdict out
- `servers`    which servers there are and how each is started
- `floor`      none of them: what a server would cost that has nothing to do
- `trial`      one server, one load, one result; the order of all trials
- `report`     medians, ratios, tables (pure)
- `plot`       … and a picture (pure)
- `cli`        the arguments

**How it is timed.** *crowd N*: each of N clients says one line of 64 bytes, all
at once, and again when all have received all. *solo N*: one of N clients says
one line, the others hear it, and the next follows when all have it; there is no
pipeline, so it shows what one message costs on its own. The load is one process
with one loop. It starts its clock before the first ``send`` and stops it after
the last ``recv`` that completes the last round.

*latency N*: what one speaker's lines reach in a second is the server's capacity;
then the clients speak in turn, evenly in time, by a schedule that does not wait, so
that a tenth of that is delivered, and then a half. Each delivery counts from when
its line was due. A figure is marked with ? where more than a quarter of it may be the
load's: where, in any repetition, the same percentile of how late the load sent its
lines is more than that.
*idle N*: N clients join, and are silent.

**What counts.** Deliveries to others: N·(N-1) in a crowd's round, N-1 in a
solo's. Each round, every client has to receive an exact number of bytes, worked
out beforehand; fewer, more, a disconnect, or silence, and the run has failed
and shows no figure. What the bytes say is checked in full in a round before and
one after the timed part, and for one client, another each round, in the timed
part too, after the clock has stopped.

**The same for all.** Clients use TCP_NODELAY and one connection each. Redis is
spoken to in RESP3, where one connection may both subscribe and publish, with
its replies to PUBLISH turned off (CLIENT REPLY OFF). It still sends a message
to its publisher, too: these are read and checked but not counted, so Redis does
N/(N-1) of the work that it gets credit for (1 % more at 100 clients). NATS can
leave them out (``echo: false``) and does. Both frame a line in more bytes than
``<IP>`` does; that is the price of their protocols and is not corrected. ncat
leaves Nagle's algorithm on, so in a crowd each client's second line waits until
its kernel has acknowledged the first, some 40 ms a round: nearly all of ncat's time
at 10 clients, about two fifths at 100, one percent at 900. Its users wait as long.

**The floor** stands beside the servers, and is none: see `floor`. ``floor is`` says how
much faster it is than each of them: how much of its time a server could save at most.

**How far to trust it.** Servers take turns within each repetition, so that a
noisy minute hurts all alike, and ratios are taken within a repetition. The load
shares the machine with the server. ``load busy`` is the share of the timed part
in which the load was on a processor: near 100 %, the server may be faster than
the figure says.
"""
