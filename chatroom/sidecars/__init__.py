"""Optional processes beside the workers. Each follows the log, and none can delay a member.

transcript/    writes each message to a file
"""
