"""Describe a failed test in words: what was sent, what arrived, and the usual cause. Pure.

diagnose.py   the sentences for a failed result
case.py       facts from the wire log: the message, its sender and its receivers
pattern.py    a pattern: the trace that one common mistake leaves
closing.py    patterns of connections that the server closes, or does not close
lines.py      patterns of lines: cut, split, mixed, doubled, without end or prefix
text.py       patterns of texts that are changed or lost
prefixes.py   patterns of wrong prefixes
members.py    patterns of members that receive nothing, or too much
crashes.py    causes of crashes, by their messages

A cause is named only if a pattern matches. The patterns do not use the profile: they find a
sender's prefix in the log. The log contains only the first bytes
of a long event, and not all events of a long test; a pattern that needs the rest does not match.
"""
