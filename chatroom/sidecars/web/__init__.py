"""`--web HOST:PORT`: a process, the gateway, that serves a page on which browsers can join.

    stream.py    pure: the room's bytes as lines
    session.py   pure: a browser's session, which outlives its WebSocket
    site.py      pure: the files of page/, and HTTP answers
    request.py   pure: a browser's address behind reverse proxies, and its origin
    closing.py   pure: the reasons why a room disconnects a member
    connections.py   limits of members, and of connections that are no members
    websocket.py a WebSocket with bounded buffers and a limited rate of frames
    visitor.py   a browser in the room: session, connection to the room, WebSocket
    rooms.py     the way into the room: through the main process, or by TCP
    gateway.py   HTTP and WebSockets, in an event loop: Gateway.listen
    certificate.py, line_clients.py   TLS, and clients that send lines over it
    supervised.py, standalone.py      the gateway as a child of the room, or by itself
    process.py   start and end of the process: main
    page/        the page: HTML, CSS and JavaScript, as they are served

supervisor/web.py starts the gateway, and replaces it when it dies.

Each browser is a member of the room, with a TCP connection of its own between the gateway and the
room, and with the browser's address. So admission, bans, rates, status and recovery apply to it as
to any other member.

Only this folder needs websockets (the extra `web`).
"""
