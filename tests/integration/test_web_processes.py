"""Several gateways (--web-processes): a browser that resumes reaches any of them."""

import random
import signal
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.integration.browsers import Browser
from tests.integration.owner import Owner
from tests.integration.processes import Process, look
from tests.integration.rooms import Room, room
from tests.integration.test_web_alone import process
from tests.integration.waiting import until

WEB = ("--web", "127.0.0.1:0", "--web-processes", 3)
NO_RATE = ("--room-rate", 0, "--rate", 0)
WELCOME = "Welcome to socket practice"
HERE = "127.0.0.1"
DIED = r" level=warning event=web-died gateway=\d exit=-9 again_in=[\d.]+ says="


def url_of(here: Room) -> str:
    return here.read_until("\n").decode().removeprefix("web page on ").strip()


def gateways(parent: int) -> list[Process]:
    """Return the processes of the gateways, the oldest first."""
    try:
        pids = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    except OSError:
        return []
    found = [child for child in map(look, map(int, pids)) if child is not None and child.alive]
    return [child for child in found if "sidecars.web.process" in child.command]


def number_of(browser: Browser) -> int:
    """Return the number of the gateway where the session began."""
    assert browser.session is not None
    return int(browser.session.partition("-")[0])


def all_ready(status: dict[str, Any]) -> bool:
    return all(row["ready"] for row in status["gateways"])


def heard(browser: Browser, line: str) -> bool:
    return line in browser.lines.values()


def cut_often(here: Room, url: str, seed: int, cuts: int) -> None:
    """Let a browser and a line client talk, and cut the browser's connection at random moments.

    Check that everything arrives once on both sides, and that the session survives each cut,
    whichever gateway the browser reaches.
    """
    chance = random.Random(seed)
    with Browser(url) as anna:
        anna.until(lambda: anna.lines == {1: WELCOME})
        session, line, sent = anna.session, here.join("127.0.0.9"), 0
        for number in range(cuts):
            anna.said.append(f"a{number}")
            for _ in range(chance.randrange(4)):
                line.send(f"l{sent}\n")
                sent += 1
            if chance.random() < 0.5:
                anna.send({"n": len(anna.said), "say": anna.said[-1]})
            if chance.random() < 0.5:
                anna.receive_now()
            if chance.random() < 0.5:
                anna.send({"seen": anna.seen})
            if chance.random() < 0.8:
                anna.cut()
            anna.connect()
            assert anna.session == session
        anna.until(lambda: anna.seen >= sent + 1 and anna.reached == cuts)
        expected = [WELCOME, *(f"<127.0.0.9>l{number}" for number in range(sent))]
        assert [*anna.lines.items()] == [*enumerate(expected, 1)]
        line.expect("".join(f"<127.0.0.1>a{number}\n" for number in range(cuts)))
        anna.say("end")
        line.expect("<127.0.0.1>end\n")
        assert anna.missed == 0


@pytest.mark.parametrize("seed", range(2))
def test_a_browser_that_resumes_at_any_gateway_loses_and_duplicates_nothing(seed: int) -> None:
    """Some of the older WebSockets are still open when the newer one takes the session over."""
    with room("--workers", 2, *WEB, *NO_RATE) as here:
        cut_often(here, url_of(here), seed, 60)
        Owner(here.run_dir).until(lambda status: len(status["members"]) <= 1, "it has left")


def test_a_killed_gateway_disconnects_only_its_own_browsers() -> None:
    """The other browsers notice nothing. The gateway is replaced, and its browsers join again."""
    with room("--workers", 1, *WEB, logs=DIED) as here:
        url, line, browsers = url_of(here), here.join("127.0.0.9"), list[Browser]()
        Owner(here.run_dir).until(all_ready, "the gateways run")
        while len({number_of(browser) for browser in browsers}) < 3:
            browsers.append(Browser(url))
            assert len(browsers) < 64, "no browser has reached one of the gateways"
        for browser in browsers:
            browser.expect(WELCOME)
        gateways(here.pid)[1].kill()
        cut = [browser for browser in browsers if number_of(browser) == 1]
        others = [browser for browser in browsers if number_of(browser) != 1]
        for browser in cut:
            assert browser.until_closed() is None
            session = browser.session
            browser.connect()
            assert browser.session != session
            browser.until(partial(heard, browser, WELCOME))
        line.send("all of us\n")
        for browser in browsers:
            browser.until(partial(heard, browser, "<127.0.0.9>all of us"))
        for browser in others:
            assert [*browser.lines.values()] == [WELCOME, "<127.0.0.9>all of us"]
            browser.say("still here")
            line.expect("<127.0.0.1>still here\n")
        rows = Owner(here.run_dir).until(all_ready, "it is replaced")["gateways"]
        assert [row["restarts"] for row in rows] == [0, 1, 0]
        assert {row["pid"] for row in rows} == {found.pid for found in gateways(here.pid)}
        for browser in browsers:
            browser.websocket.close()


def test_several_gateways_in_front_of_a_room() -> None:
    with room("--workers", 1, *NO_RATE) as here:
        options = ("--room", f"{HERE}:{here.port}", "--processes", 2)
        with process(*options, errors="event=web-died gateway=0 exit=-9 ") as (url, parent):
            assert len(gateways(parent.pid)) == 2
            cut_often(here, url, 0, 20)
            gateways(parent.pid)[0].kill()
            until(lambda: len(gateways(parent.pid)) == 2, "it is replaced")
            cut_often(here, url, 1, 5)
            parent.send_signal(signal.SIGTERM)
            parent.wait()
            until(lambda: not gateways(parent.pid), "none is left")
