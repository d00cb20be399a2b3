"""Find out the dialect of an unknown server, as a profile.

login.py      how one joins: by connecting alone, with a name, with a command
listen.py     a few clients that join, talk and leave, and what they receive
findings.py   from the received bytes to the profile, pure
patterns.py   from texts to a pattern that matches them and similar ones, pure
"""
