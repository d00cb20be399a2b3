"""Shrinking: from a history with a violation to the smallest script that shows it.

reduce.py        a script from a history, and its smallest failing part (pure): `reduce`
replay.py        a player and judge of scripts; `shrink` copies its source into a file: `play`
"""
