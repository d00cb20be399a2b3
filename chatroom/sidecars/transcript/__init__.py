"""`--transcript FILE`: a process that writes each message as a line of JSON.

    lines.py    pure: format and read lines
    file.py     the file, which holds only whole lines
    process.py  the process that follows the log and writes the file

supervisor/transcript.py starts the process, and replaces it when it dies.

No worker waits for it. If it was too slow, or the disk was full for too long, it misses messages,
and writes their number instead. Its only state is the number of the last message that the file
holds or reports as missed. It reads this number from the file, so a new process continues where the
last one stopped. The main process keeps a descriptor of the file, so this works even if the file
was renamed meanwhile, by somebody else or by the process itself (--transcript-size).
"""
