"""The commands that run and administer a room.

server.py            python -m chatroom: start a room
status.py            python -m chatroom.status: show a room's status
admin.py             python -m chatroom.admin: kick, ban, and send messages as the room
cluster.py           --cluster of status and admin: the connection to all nodes
cluster_status.py    chatroom.status --cluster: the status of all nodes
cluster_admin.py     chatroom.admin --cluster: the commands for all nodes
web.py               python -m chatroom.web: serve a page for browsers, in front of any room
"""
