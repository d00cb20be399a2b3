"""`--transcript FILE`: every message as a line of JSON, by a process of its own.

    lines.py    pure: a run of messages becomes lines
    file.py     the file: whole lines, whatever happens
    process.py  the process that follows the log and writes the file

The main process starts it, and another when it dies: supervisor/transcript.py.

Nobody waits for it: where it was too slow, or the disk was full for too long, it
writes down how many messages it has missed. The number of the last message that
is accounted for is all that it has to know, and the file tells it: so one process
goes on just behind another. Should the file have been moved meanwhile, it is still
the same file, for the main process keeps a descriptor of it.
"""
