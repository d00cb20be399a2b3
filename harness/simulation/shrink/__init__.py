"""Shrinking: from a history in which something went wrong to the smallest script that shows it.

reduce.py        a script from a history, and the smallest that shows the same (pure): `reduce`
replay.py        a player and judge of scripts; `shrink` copies its source into a file: `play`
"""
