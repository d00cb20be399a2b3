"""`--cluster URL`: one room on several machines (nodes), connected by NATS JetStream.

On each node, a process called the bridge connects the node's room with a stream of NATS JetStream,
the engine.

    stream_message.py  a batch of messages, as bytes in the stream; no I/O
    relay.py           reads the uplink, appends to the room's log; no network
    rounds.py          waits for the messages and publications of a whole round
    engine.py          the connection to NATS: the stream, publishing, the messages in order
    bridge.py          both directions, in an event loop: Bridge.run
    process.py         start and end of the process: main
    requests.py        status and commands of all nodes, by request and reply

supervisor/cluster.py starts the bridge, and replaces it when it dies.

The order of the stream is the order of the room, on every node:

    workers ─► uplink ─► bridge ─► stream ─► bridges of all nodes ─► room's log ─► workers

Each message appears in each log exactly once, even if a bridge or the engine dies. A new bridge
finds out where to continue, for each of its two tasks:

- *Publishing.* A bridge sends one publication at a time. A publication contains the position of its
  end in the uplink. The stream accepts a publication only if the node's last publication in the
  stream is the expected one (`Nats-Expected-Last-Subject-Sequence`). If the bridge does not know
  whether a publication was accepted, it reads the node's last publication from the stream, and
  continues after the position in it.
- *Appending.* A publication is appended to the room's log as a whole, or not at all. The reach of
  each appended entry is the sequence number of its publication in the stream. A new bridge finds
  the last sequence number in the log, and continues after it. If a bridge receives a publication
  whose number is too high, it requests the missing publications again.

Only this folder needs nats-py (the extra `cluster`).
"""
