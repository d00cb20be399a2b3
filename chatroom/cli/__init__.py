"""The commands to run on the server's machine.

server.py            python -m chatroom: start a room
status.py            python -m chatroom.status: show a room's status
admin.py             python -m chatroom.admin: kick, ban, and send messages as the room
cluster.py           --cluster of both: the connection to all nodes
cluster_status.py    … the status of all nodes
cluster_admin.py     … the commands for all nodes
web.py               python -m chatroom.web: serve a page for browsers, in front of any room
"""
