"""The protocol as functions of bytes, which use no socket, clock, process or shared memory.

A member's input passes through three steps, in this order. Each step is a module:

    framing.py   turn received bytes into whole messages; it uses telnet.py to remove
                 telnet commands
    text.py      replace characters that could harm another member's terminal
    message.py   put the sender's prefix before each message

The rest:

    address.py        canonical form of an address
    prefix.py         the prefix of a sender
    proxy_header.py   header in which a proxy sends its client's address
    opening.py        recognition of other protocols by a connection's first bytes
    leave_reason.py   reasons for which members leave
    refusal_reason.py reasons for which connections are refused

`PROTOCOL.md` numbers the clauses that the modules cite.
"""
