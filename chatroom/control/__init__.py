"""The control socket, through which commands on the same machine reach the main process.

control_socket.py   a Unix socket: requests and answers
run_dir.py          the private folder where a room's socket is found
bans.py             banned addresses, and the file that keeps them
"""
