"""Connections that are not clients: other protocols at the room's port, and health checks."""

import socket

from tests.integration.rooms import NEVER_SILENT, room

POST = (
    b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: text/plain\r\nContent-Length: 21\r\n\r\n"
    b"spoken by a web page\n"
)
CLIENT_HELLO = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"x\n" * 250


def test_a_web_page_can_not_send_to_the_room() -> None:
    """`fetch("http://HOST:PORT/", {method: "POST", mode: "no-cors", body: …})` gets an HTTP answer
    after the welcome (WELCOME-1), and its body reaches nobody. A TLS connection is closed."""
    with room("--workers", 2, *NEVER_SILENT) as here:
        witness, speaker = here.join_all(["127.0.0.2", "127.0.0.3"])
        page = here.join("127.0.0.4")
        page.send(POST)
        reply = page.receive_rest()
        assert reply.startswith(b"HTTP/1.1 400 Bad Request\r\n")
        assert b"\r\nConnection: close\r\n" in reply
        slow = here.join("127.0.0.4")
        for start in range(0, len(POST), 20):
            if not slow.send_what_fits(POST[start : start + 20]):
                break
            if slow.arrived():
                break
        assert slow.receive_rest().startswith(b"HTTP/1.1 400 ")
        tls = here.join("127.0.0.4")
        tls.send(CLIENT_HELLO)
        tls.expect_end()
        person = here.join("127.0.0.5")
        person.send("GET off my lawn\n")
        witness.expect("<127.0.0.5>GET off my lawn\n")
        person.send("GET / HTTP/1.1\n")
        witness.expect("<127.0.0.5>GET / HTTP/1.1\n")
        speaker.send("nothing else\n")
        witness.expect("<127.0.0.3>nothing else\n")


def test_a_health_check_leaves_no_line_on_the_console() -> None:
    with room("--workers", 1) as here:
        for _ in range(3):
            with socket.create_connection((here.host, here.port)):
                pass
        guest = here.join("127.0.0.2")
        guest.send("hello\n")
        assert here.read_until("hello\n") == b"127.0.0.2 connected\n<127.0.0.2>hello\n"
        guest.close()
        assert here.read_until("disconnected\n") == b"127.0.0.2 disconnected\n"
