"""The settings of a room.

settings.py    the settings themselves, and the sizes that follow from them
sources.py     the command line, the environment and a file, from which they are read
"""
