"""The settings of a room, and the sources that they are read from.

options.py     the table of options
settings.py    the settings of one room, and the sizes that follow from them
sources.py     read the settings from the command line, the environment and a file
limits.py      the numbers that the shared memory and the other processes need
cluster_url.py the URL of a cluster
sizes.py       sizes in bytes, and their notation
"""
