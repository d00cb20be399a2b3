"""What a room's owner asks it, and tells it, while it runs; all by the main process.

In reading order:

    control.py      a Unix socket: requests and answers
    run_dir.py      where that is found
    overview.py     what there is to tell
    moderation.py   who is put out, with bans.py, and what the room itself says
    metrics.py      what Prometheus reads, and the process that serves it
"""
