"""`--cluster URL`: a process, the bridge, that makes several rooms one, through NATS JetStream.

    stream_message.py  pure: a batch of messages, as bytes in the stream
    relay.py           reads the uplink, appends to the room's log: no network
    engine.py          the connection to NATS: the stream, publishing, the messages in order
    bridge.py          both directions, in an event loop: Bridge.run
    process.py         start and end of the process: main
    requests.py        status and commands of all nodes, by request and reply

supervisor/cluster.py starts the bridge, and replaces it when it dies.

The order of the stream is the order of the room, on every node:

    workers ─► uplink ─► bridge ─► stream ─► bridges of all nodes ─► room's log ─► workers

Each message appears in each log exactly once, although a bridge or the engine may die at any
moment, because both ends of the stream have a number from which to continue:

- *Publishing.* One publication is under way at a time. It carries the position in the uplink up to
  which it reaches, and is accepted only if the node's previous publication is the last one of the
  node in the stream (`Nats-Expected-Last-Subject-Sequence`). After any doubt, the bridge reads the
  node's last publication from the stream, and continues behind its position.
- *Appending.* A publication is appended to the room's log as a whole, or not at all. Each of its
  entries has the publication's sequence number in the stream as its reach. A new bridge finds the
  last number in the log, and continues behind it. A number that is skipped is fetched again.

It needs nats-py (the extra `cluster`); nothing else in the server does.
"""
