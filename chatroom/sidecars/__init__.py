"""Optional processes beside the workers.

transcript/    writes each message to a file; it can't delay a member
metrics.py     serves the room's metrics to Prometheus; it can't delay a member
cluster/       connects the rooms of several machines, so that they are one room
web/           serves a page on which browsers can join, and line clients over TLS
parent.py      the channel to the main process, for the sidecars that use asyncio
"""
