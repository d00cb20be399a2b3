"""The settings of a room, and where they are read from.

options.py     the table of options: all that is known of each
settings.py    the settings of one room, and the sizes that follow from them
sources.py     reads them from the command line, the environment and a file
sizes.py       sizes in bytes, and how a person writes them
"""
