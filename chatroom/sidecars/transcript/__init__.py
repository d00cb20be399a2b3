"""`--transcript FILE`: a process that writes each message as a line of JSON.

    lines.py    pure: format and read lines
    file.py     the file, which holds only whole lines
    process.py  the process that follows the log and writes the file

supervisor/transcript.py starts the process, and replaces it when it dies.

No worker waits for the process. If the process was too slow, or the disk was full for too long, the
process misses messages, and writes their number instead. Its only state is the number of the last
message that the file holds or reports as missed. A new process reads this number from the file, so
it continues where the last process stopped. The main process keeps a descriptor of the file. So
this works even if another program, or the process itself (--transcript-size), has renamed the file.
"""
