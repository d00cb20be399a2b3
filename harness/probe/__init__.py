"""Find out the dialect of an unknown server, as a profile.

login.py      finds out how to join: without a login, with a name, or with a command
framing.py    refuses a server whose messages are not lines
listen.py     has a few clients join, talk and leave, and notes what they receive
findings.py   makes the profile from the received bytes; pure
patterns.py   makes a pattern that matches given texts and similar texts; pure
"""
