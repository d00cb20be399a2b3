"""Optional processes beside the workers. None of them can delay a member.

transcript/    writes each message to a file
metrics.py     serves the room's metrics to Prometheus
"""
