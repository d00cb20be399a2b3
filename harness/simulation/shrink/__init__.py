"""Shrinking: find a small script of clients' actions that shows the violation in a history.

reduce.py        makes a script from a history, and reduces it (pure): `script_of`, `reduce`
replay.py        plays and judges a script; `shrink` copies it into the file that it writes: `play`
"""
