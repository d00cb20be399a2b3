"""Shrinking: from a history with a violation to the smallest script that shows it.

reduce.py        makes a script from a history, and reduces it (pure): `script_of`, `reduce`
replay.py        plays and judges a script; copied into the file that `shrink` writes: `play`
"""
