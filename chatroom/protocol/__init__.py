"""The protocol, pure: bytes in, bytes out. No socket, clock, process or shared memory.

A member's input passes through three steps, in this order; each is one module:

    framing.py   what arrived, in whatever pieces, becomes whole messages
    text.py      what could harm another's terminal becomes harmless
    message.py   each message gets its sender's prefix
    address.py   … which comes from the sender's address

Before all input may stand what a proxy in front says of the connection:

    proxy_header.py   the sender's address, where a proxy hides it

When a member leaves, it leaves for one reason:

    leave_reason.py   all the reasons

`PROTOCOL.md` numbers the clauses that the modules cite.
"""
