"""The commands to run on the server's machine.

server.py    python -m chatroom: start a room
status.py    python -m chatroom.status: show a local room's status
admin.py     python -m chatroom.admin: kick, ban, and send messages as the room
web.py       python -m chatroom.web: serve a page for browsers, in front of any room
"""
