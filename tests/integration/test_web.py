"""Browsers in a running room, through its gateway (--web)."""

import os
import random
import signal
import socket
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosedOK, InvalidStatus

import chatroom
from chatroom.config.sizes import MIB
from chatroom.sidecars.web.closing import TAKEN_OVER, TOO_SLOW
from tests.integration.browsers import Browser, open_websocket
from tests.integration.owner import Owner
from tests.integration.processes import Process
from tests.integration.rooms import DIED, ERROR_LINE, ROOT, SMALL_LOG, Room, command, room, started
from tests.integration.waiting import PATIENCE, until

WEB = ("--web", "127.0.0.1:0")
WELCOME = "Welcome to socket practice"
WEB_DIED = r" level=warning event=web-died gateway=\d exit=-9 again_in=[\d.]+ says="

HERE = "127.0.0.1"


def where(here: Room) -> str:
    """Return the URL that the room prints."""
    line = here.read_until("\n").decode()
    assert line.startswith("web page on http://127.0.0.1:"), line
    return line.removeprefix("web page on ").strip()


def gateway(here: Room) -> Process:
    """Return the gateway's process."""

    def find() -> list[Process]:
        return [child for child in here.children() if "sidecars.web.process" in child.command]

    [found] = until(find, "there is a gateway")
    return found


def test_browsers_and_line_clients_are_members_of_one_room() -> None:
    """CAST-1, CAST-2, PREFIX-1: no member receives a line twice or receives its own lines."""
    with room("--workers", 2, *WEB) as here:
        url = where(here)
        with Browser(url) as anna, Browser(url) as ben:
            line = here.join("127.0.0.9")
            anna.expect(WELCOME)
            ben.expect(WELCOME)
            anna.say("hello ü 🎉")
            line.expect("<127.0.0.1>hello ü 🎉\n")
            ben.expect("<127.0.0.1>hello ü 🎉")
            line.send("one\ntwo\n")
            anna.expect("<127.0.0.9>one", "<127.0.0.9>two")
            ben.say("")
            anna.expect("<127.0.0.1>")
            ben.expect("<127.0.0.9>one", "<127.0.0.9>two")
            anna.until(lambda: anna.reached == 1)
            line.expect("<127.0.0.1>\n")


def test_unfinished_text_is_shown_and_then_finished() -> None:
    """LINE-5, LINE-6: unfinished text has a line number. It is sent again, with the same number,
    when the next message begins."""
    with room("--workers", 1, *WEB) as here, Browser(where(here)) as anna:
        anna.expect(WELCOME)
        line = here.join()
        line.send("unfin")
        anna.until(lambda: anna.unfinished == {2: "<127.0.0.1>unfin"})
        line.send("ished\n")
        anna.expect("<127.0.0.1>unfin", "<127.0.0.1>ished")


def test_a_browser_that_resumes_has_lost_nothing() -> None:
    """Lines that others sent meanwhile arrive once. A line that was typed meanwhile is sent
    once."""
    with room("--workers", 2, *WEB) as here, Browser(where(here)) as anna:
        anna.expect(WELCOME)
        line, session = here.join(), anna.session
        anna.cut()
        line.send("a\nb\nc\n")
        anna.said.append("typed offline")
        anna.connect()
        anna.expect("<127.0.0.1>a", "<127.0.0.1>b", "<127.0.0.1>c")
        line.expect("<127.0.0.1>typed offline\n")
        assert (anna.session, anna.missed) == (session, 0)
        members = Owner(here.run_dir).status()["members"]
        assert len(members) == 2


@pytest.mark.parametrize("seed", range(2))
def test_random_cuts_lose_and_duplicate_nothing(seed: int) -> None:
    """A browser and a line client send lines while the browser's connection is cut at random
    moments. Each receives every line of the other once."""
    chance, count = random.Random(seed), 150
    with (
        room("--workers", 2, *WEB, "--room-rate", 0, "--rate", 0) as here,
        Browser(where(here)) as anna,
    ):
        line = here.join()
        for number in range(count):
            anna.said.append(f"a{number}")
            line.send(f"l{number}\n")
            if chance.random() < 0.2:
                anna.cut()
                anna.connect()
            else:
                anna.send({"n": len(anna.said), "say": anna.said[-1]})
            if chance.random() < 0.3:
                anna.receive_now()
            if chance.random() < 0.3:
                anna.send({"seen": anna.seen})
        anna.cut()
        anna.connect()
        anna.expect(WELCOME, *(f"<127.0.0.1>l{number}" for number in range(count)))
        anna.until(lambda: anna.reached == count)
        line.expect("".join(f"<127.0.0.1>a{number}\n" for number in range(count)))
        anna.say("end")
        line.expect("<127.0.0.1>end\n")
        assert anna.missed == 0


def test_lines_that_the_gateway_does_not_keep_are_counted() -> None:
    with (
        room("--workers", 1, *WEB, "--room-rate", 0, "--rate", 0) as here,
        Browser(where(here)) as anna,
    ):
        anna.expect(WELCOME)
        line = here.join()
        anna.cut()
        line.send("".join(f"{number}\n" for number in range(3000)))
        witness = here.join()
        line.send("end\n")
        witness.receive_until("end\n")
        # The gateway may receive the last line a moment later than the witness.
        until(lambda: resumed(anna), "the browser resumes with the last line")
        assert anna.missed + len(anna.lines) == 3002
        assert anna.missed == 1001


def resumed(browser: Browser) -> bool:
    """Resume a session; return whether the last line has arrived."""
    browser.connect()
    browser.receive_now()
    found = browser.lines[browser.seen].endswith("end")
    if not found:
        browser.cut()
    return found


def test_a_second_websocket_takes_the_session_over() -> None:
    with room("--workers", 1, *WEB) as here:
        url = where(here)
        with Browser(url) as anna:
            anna.expect(WELCOME)
            old, anna.session = anna.websocket, anna.session
            anna.connect()
            assert TAKEN_OVER in str(old.recv(PATIENCE))
            with pytest.raises(ConnectionClosedOK):
                old.recv(PATIENCE)
            line = here.join()
            line.send("still here\n")
            anna.expect("<127.0.0.1>still here")


def test_a_browser_that_closes_its_websocket_leaves_at_once() -> None:
    with room("--workers", 1, *WEB) as here:
        owner = Owner(here.run_dir)
        with Browser(where(here)) as anna:
            anna.say("bye")
            anna.until(lambda: anna.reached == 1)
        owner.until(lambda status: not status["members"], "the browser has left")


def test_a_session_ends_some_time_after_its_websocket() -> None:
    with room("--workers", 1, *WEB, "--web-keep", 0.2) as here:
        owner = Owner(here.run_dir)
        anna = Browser(where(here))
        session = anna.session
        anna.cut()
        owner.until(lambda status: not status["members"], "the browser has left")
        anna.connect()
        assert anna.session != session
        anna.cut()


def test_the_room_sees_the_true_address() -> None:
    """The status, limits and bans use the address in X-Forwarded-For, but only if a trusted proxy
    has sent it."""
    options = ("--web-proxy-from", HERE, "--max-clients-per-address", 1)
    with room("--workers", 1, *WEB, *options) as here:
        url, owner = where(here), Owner(here.run_dir)
        with Browser(url, X_Forwarded_For="10.0.0.1, 192.0.2.7") as anna:
            anna.expect(WELCOME)
            [member] = owner.status()["members"]
            assert member["address"] == "192.0.2.7"
            with Browser(url, X_Forwarded_For="192.0.2.7") as second:
                assert second.until_closed() == "Too many connections from your address"
            owner.admin("ban", "192.0.2.0/24")
            assert anna.until_closed() == "You were banned"
            assert anna.lines[2] == "<room>You were banned"
            with Browser(url, Forwarded='for="192.0.2.8"') as third:
                assert third.until_closed() == "You are banned from this room"
    with (
        room("--workers", 1, *WEB) as here,
        Browser(where(here), X_Forwarded_For="192.0.2.7") as anna,
    ):
        anna.expect(WELCOME)
        [member] = Owner(here.run_dir).status()["members"]
        assert member["address"] == HERE


def test_a_kicked_browser_is_told_why() -> None:
    with room("--workers", 1, *WEB) as here, Browser(where(here)) as anna:
        anna.expect(WELCOME)
        Owner(here.run_dir).admin("kick", HERE)
        assert anna.until_closed() == "You were kicked"


def test_a_browser_is_told_that_the_room_is_full() -> None:
    """JOIN-5"""
    with room("--workers", 1, *WEB, "--max-clients", 1) as here:
        here.join()
        with Browser(where(here)) as anna:
            assert anna.until_closed() == "The room is full"


def test_a_browser_that_does_not_read_is_disconnected_and_told_why() -> None:
    """LOAD-1, LOAD-2: the browser delays no member, and the gateway uses little memory for it."""
    with room("--workers", 1, *WEB, *SMALL_LOG) as here, Browser(where(here)) as anna:
        anna.expect(WELCOME)
        line, other, owner = here.join(), here.join("127.0.0.9"), Owner(here.run_dir)
        before = gateway(here).memory
        text = b"x" * 4000 + b"\n"
        prefixed = b"<127.0.0.1>" + text
        sent = 0
        while not owner.status()["room"]["leaves"].get("lagged"):
            assert sent < 10_000, "the browser is not disconnected"
            for _ in range(100):
                line.send(text)
                other.expect(prefixed)
            sent += 100
        assert gateway(here).memory - before < 8 * MIB
        assert anna.until_closed() == TOO_SLOW
        assert anna.seen < sent + 1
        assert set(anna.lines.values()) <= {WELCOME, prefixed.decode().rstrip()}
        line.send("only this\n")
        other.expect("<127.0.0.1>only this\n")


def test_a_killed_worker_disconnects_no_browser() -> None:
    """LOAD-4"""
    with room("--workers", 2, *WEB, logs=DIED) as here, Browser(where(here)) as anna:
        anna.expect(WELCOME)
        line = here.join()
        for number, worker in enumerate(here.workers()):
            line.send(f"{number}\n")
            worker.kill()
            anna.expect(f"<127.0.0.1>{number}")
            anna.say(f"{number}")
            line.expect(f"<127.0.0.1>{number}\n")
            here.wait_until_replaced(number + 1, 2)


def test_a_killed_gateway_is_replaced() -> None:
    """The other members stay connected."""
    with room("--workers", 2, *WEB, logs=WEB_DIED) as here:
        url, members = where(here), [here.join(), here.join("127.0.0.2")]
        anna = Browser(url)
        anna.expect(WELCOME)
        gateway(here).kill()
        members[0].send("still here\n")
        members[1].expect("<127.0.0.1>still here\n")
        assert anna.until_closed() is None
        anna.connect()
        anna.until(lambda: anna.lines == {1: WELCOME})
        members[0].send("again\n")
        anna.until(lambda: anna.lines.get(2) == "<127.0.0.1>again")
        members[1].expect("<127.0.0.1>again\n")
        anna.websocket.close()


def test_a_gateway_that_hangs_does_not_delay_the_room() -> None:
    with room("--workers", 2, *WEB) as here, Browser(where(here)) as anna:
        anna.expect(WELCOME)
        first, second = here.join(), here.join()
        os.kill(gateway(here).pid, signal.SIGSTOP)
        first.send("1\n")
        second.expect("<127.0.0.1>1\n")
        here.stop()


def test_a_gateway_that_hangs_is_replaced() -> None:
    logs = r" level=warning event=web-(stuck|died) "
    with room("--workers", 1, *WEB, "--watchdog", 0.5, logs=logs) as here:
        url = where(here)
        with Browser(url) as anna:
            anna.expect(WELCOME)
            os.kill(gateway(here).pid, signal.SIGSTOP)
            assert anna.until_closed() is None
            anna.connect()
            anna.until(lambda: anna.lines == {1: WELCOME})


def test_browsers_are_told_that_the_room_stops() -> None:
    with room("--workers", 2, *WEB) as here:
        line = here.join()
        with Browser(where(here)) as anna:
            anna.expect(WELCOME)
            line.send("last words\n")
            here.wait_until_read(line)
            here.stop()
            anna.expect("<127.0.0.1>last words")
            assert anna.until_closed() is None
            assert anna.websocket.close_code in (1001, 1012)


def test_the_gateway_ends_with_a_killed_main_process() -> None:
    with room("--workers", 1, *WEB) as here, Browser(where(here)) as anna:
        anna.expect(WELCOME)
        os.kill(here.pid, signal.SIGKILL)
        here.process.wait()
        until(lambda: not here.processes(), "all processes have ended")


def test_the_page_over_ipv6(ipv6: None) -> None:
    with room("--workers", 1, "--web", "[::1]:0") as here:
        line = here.read_until("\n").decode()
        assert line.startswith("web page on http://[::1]:")
        url = line.removeprefix("web page on ").strip()
        assert get(url)[0] == 200
        with Browser(url, source="::1", Origin=url.rstrip("/")) as anna:
            anna.expect(WELCOME)
            [member] = Owner(here.run_dir).status()["members"]
            assert member["address"] == "::1"


def test_a_room_with_browsers_is_idle() -> None:
    with room("--workers", 1, *WEB) as here, Browser(where(here)) as anna:
        anna.expect(WELCOME)
        until(here.is_idle, "the room uses no processor time")


# --- the page -------------------------------------------------------------------------------------


def get(url: str, method: str = "GET", **headers: str) -> tuple[int, dict[str, str], bytes]:
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    request = urllib.request.Request(url, method=method, headers=names)
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
            return answer.status, dict(answer.headers), answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, dict(error.headers), error.read()


def test_the_page_is_served_with_types_caching_and_a_content_policy() -> None:
    with room("--workers", 1, *WEB) as here:
        url = where(here)
        for path, kind in (
            ("", "text/html; charset=utf-8"),
            ("index.html", "text/html; charset=utf-8"),
            ("page.js?1", "text/javascript; charset=utf-8"),
            ("page.css", "text/css; charset=utf-8"),
        ):
            status, headers, body = get(url + path)
            assert (status, headers["Content-Type"]) == (200, kind)
            assert headers["Content-Security-Policy"].startswith("default-src 'none'; ")
            assert headers["X-Content-Type-Options"] == "nosniff"
            assert headers["Referrer-Policy"] == "no-referrer"
            assert headers["Cache-Control"] == "no-cache"
            assert get(url + path, If_None_Match=headers["ETag"])[::2] == (304, b"")
            status, head, nothing = get(url + path, "HEAD")
            assert (status, nothing) == (200, b"")
            assert head["Content-Length"] == str(len(body))
        assert get(url + "../options.py")[0] == 404
        assert get(url + "%2e%2e/x")[0] == 404
        status, headers, body = get(url + "nothing")
        assert (status, headers["X-Content-Type-Options"]) == (404, "nosniff")
        assert get(url, "POST")[0] == 405
        status, headers, _ = get(url + "room")
        assert (status, headers["X-Content-Type-Options"]) == (426, "nosniff")


def test_pages_of_other_sites_may_not_join() -> None:
    with room("--workers", 1, *WEB, "--web-origin", "https://chat.example") as here:
        url = where(here)
        for origin in ("https://evil.example", "null", f"http://{HERE}", "https://chat.example:1"):
            with pytest.raises(InvalidStatus, match="HTTP 403"):
                open_websocket(url, Origin=origin)
        for origin in (url.rstrip("/"), "https://chat.example"):
            with Browser(url, Origin=origin) as anna:
                anna.expect(WELCOME)


def test_a_page_with_an_unknown_host_is_not_served() -> None:
    """The name could be an attacker's. 127.1 is known, because it is the host of --web."""
    with room("--workers", 1, "--web", "127.1:0", "--web-origin", "http://chat.example") as here:
        url = where(here)
        for host, status in (("evil.example", 421), ("chat.example", 200), ("127.1", 200)):
            assert get(url, Host=host)[0] == status
        assert get(url, "HEAD", Host="evil.example")[0] == 421


# --- errors ---------------------------------------------------------------------------------------


def test_an_address_in_use_is_an_error() -> None:
    with socket.create_server((HERE, 0)) as other:
        at = f"{HERE}:{other.getsockname()[1]}"
        with started(command("--workers", 1, "--web", at), logs=ERROR_LINE) as here:
            here.expect_error(1, f"can't listen on {at}: Address already in use")


def test_the_web_without_the_extra_is_an_error() -> None:
    if not Path(chatroom.__file__).is_relative_to(ROOT):
        pytest.skip("chatroom is in site-packages, and -S hides both the extra and chatroom")
    words = command("--workers", 1, *WEB)
    with started([words[0], "-S", *words[1:]], logs=ERROR_LINE) as here:
        here.expect_error(1, "--web needs websockets: pip install 'chatroom[web]'")
