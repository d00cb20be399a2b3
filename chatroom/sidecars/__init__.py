"""Optional processes beside the workers. Each follows the log, and none can delay a member.

transcript/    writes each message to a file
metrics.py     serves the room's metrics to Prometheus
"""
