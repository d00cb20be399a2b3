"""`--web HOST:PORT`: the gateways, processes that serve a page on which browsers can join.

    stream.py    pure: the room's bytes as lines
    session.py   pure: a browser's session, which outlives its WebSocket
    site.py      pure: the files of page/, and HTTP answers
    request.py   pure: a browser's address behind reverse proxies, its origin, and its host name
    closing.py   pure: the reasons why a room disconnects a member
    connections.py  limits of members, and of connections that are not members
    websocket.py a WebSocket with bounded buffers and a limited rate of frames
    visitor.py   a browser in the room: session, connection to the room, WebSocket
    rooms.py     connections to the room: through the main process, or by TCP
    claims.py    sessions that move from one gateway to another
    gateway.py   HTTP and WebSockets, in an event loop: Gateway.listen
    certificate.py, line_clients.py   TLS, and clients that send lines over TLS
    process.py   start and end of the process: main
    supervised.py  the gateway as a child process, which exchanges records with the main process
    page/        the page: HTML, CSS and JavaScript, as they are served

supervisor/web.py starts the gateways, and replaces a gateway that dies.

Each browser is a member of the room. It has its own TCP connection between the gateway and the
room, and this connection has the browser's address. So admission, bans, rates, status and recovery
apply to a browser as to any other member.

Only this folder needs websockets (the extra `web`).
"""
