"""The page of `--web` in Chromium. All tests share one browser; each user has a separate context.

The pages reach the room through a proxy that can cut connections (`Cutter`).
"""

import json
import random
import re
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from importlib.resources import files
from typing import Any

import pytest
from playwright.sync_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Locator,
    Page,
    expect,
    sync_playwright,
)

from chatroom.control.control_socket import ControlClient
from chatroom.sidecars.web.site import FOLDER
from tests.integration.clients import Client
from tests.integration.rooms import UNLIMITED, WELCOME, Room, room
from tests.integration.waiting import PATIENCE
from tests.programs import program

KEY = "chatroom /"
"""Name under which the page stores its session."""

LEAVE_THE_PAGE = """() => {
  document.hasFocus = () => false;
  Object.defineProperty(document, "hidden", {value: true, configurable: true});
  document.dispatchEvent(new Event("visibilitychange"));
}"""
RETURN_TO_THE_PAGE = """() => {
  document.hasFocus = () => true;
  Object.defineProperty(document, "hidden", {value: false, configurable: true});
  document.dispatchEvent(new Event("visibilitychange"));
}"""


class Cutter:
    """A TCP proxy that can cut its connections, refuse new ones, and fall silent."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}/"
        self.refuses = False
        self.is_silent = False
        """If true, arriving bytes are discarded."""
        self._ends: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._until_cut: int | None = None
        self._lock = threading.RLock()
        self._run(self._accept)

    def _run(self, call: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=call, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with suppress(OSError):  # the listener is closed
            while True:
                end, _ = self._listener.accept()
                if self.refuses:
                    end.close()
                    continue
                other = socket.create_connection(("127.0.0.1", self._target))
                with self._lock:
                    self._ends += [end, other]
                self._run(self._pump, end, other)
                self._run(self._pump, other, end)

    def _pump(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(1 << 16):
                if not self.is_silent:
                    target.sendall(self._count(data))
        for end in (source, target):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def _count(self, data: bytes) -> bytes:
        with self._lock:
            if self._until_cut is not None:
                if self._until_cut < len(data):
                    self.cut()
                else:
                    self._until_cut -= len(data)
            return data

    def cut_after(self, size: int) -> None:
        """Cut all connections, once, when more than `size` further bytes have arrived."""
        with self._lock:
            self._until_cut = size

    def cancel_cut(self) -> None:
        with self._lock:
            self._until_cut = None

    def cut(self) -> None:
        """Cut all connections now."""
        with self._lock:
            self._until_cut = None
            for end in self._ends:
                with suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
                end.close()
            self._ends.clear()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()
        for thread in self._threads:
            thread.join(PATIENCE)


class Here:
    """A room with a page, a browser, and the proxy between them."""

    def __init__(self, room: Room, browser: Browser, leaving: ExitStack) -> None:
        self.room = room
        self._browser = browser
        self.leaving = leaving
        self.errors: list[str] = []
        """Errors that the pages raised or logged."""
        self.port = int(room.read_until("/\n").rpartition(b":")[2].rstrip(b"/\n"))
        self.cutter = Cutter(self.port)
        leaving.callback(self.cutter.close)

    def context(self, name: str = "", **options: Any) -> BrowserContext:
        """Return the browser context of a new user, whose name may be given."""
        context = self._browser.new_context(locale="en-GB", **options)
        self.leaving.callback(context.close)
        context.set_default_timeout(PATIENCE * 1000)
        if name:
            stored = json.dumps(json.dumps({"name": name}))
            context.add_init_script(f"localStorage.chatroom ??= {stored}")
        return context

    def page(self, name: str = "", **options: Any) -> Page:
        """Return the page of a new user, after the user has joined the room."""
        return self.joined(self.context(name, **options))

    def joined(self, context: BrowserContext) -> Page:
        page = self.open(context)
        expect(page.get_by_role("status").first).to_have_text("Connected")
        expect(page.locator(".welcome")).to_have_count(1)
        return page

    def open(self, context: BrowserContext) -> Page:
        page = context.new_page()
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("console", self._on_console)
        page.goto(self.cutter.url)
        return page

    def member(self, source: str = "127.0.0.2") -> Client:
        """Return a member with a plain TCP connection."""
        return self.room.join(source)

    def command(self, name: str, **arguments: str) -> None:
        """Send the room a command of its owner."""
        path = self.room.run_dir / f"{self.room.host}:{self.room.port}.sock"
        with closing(ControlClient(path)) as client:
            answer = client.ask({"do": name, **arguments})
        assert "error" not in answer, answer

    def _on_console(self, message: ConsoleMessage) -> None:
        """Record each error, except errors of connections that a test has cut."""
        if message.type == "error" and not re.search("WebSocket|net::ERR_", message.text):
            self.errors.append(message.text)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    path = program("chromium")
    expect.set_options(timeout=PATIENCE * 1000)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path)
        yield browser
        browser.close()


@contextmanager
def opened(browser: Browser, *options: object) -> Iterator[Here]:
    with room("--web", "127.0.0.1:0", *UNLIMITED, *options) as one, ExitStack() as leaving:
        here = Here(one, browser, leaving)
        yield here
        assert here.errors == []


@pytest.fixture(scope="module")
def shared(browser: Browser) -> Iterator[Here]:
    """Yield one room for all tests that need no special options."""
    with opened(browser) as here:
        yield here


@pytest.fixture
def here(shared: Here) -> Iterator[Here]:
    """Yield the shared room, and close the test's pages at the end."""
    with ExitStack() as leaving:
        shared.leaving, outer = leaving, shared.leaving
        yield shared
    shared.leaving = outer
    shared.cutter.refuses = shared.cutter.is_silent = False
    assert shared.errors == []


def say(page: Page, text: str) -> None:
    page.get_by_label("Message", exact=True).fill(text)
    page.keyboard.press("Enter")


def texts(page: Page, kind: str) -> list[str]:
    """Return the texts of the lines of a kind: "say" (of others) or "own"."""
    return page.locator(f".{kind} .text").all_inner_texts()


def is_at_end(page: Page) -> bool:
    log = "document.getElementById('log')"
    return bool(page.evaluate(f"{log}.scrollHeight - {log}.scrollTop - {log}.clientHeight < 2"))


def wait_for(page: Page, kind: str, text: str) -> Locator:
    """Wait for the newest line of a kind."""
    last = page.locator(f".{kind} .text").last
    expect(last).to_have_text(text)
    return last


def accessible(page: Page) -> list[str]:
    """Return the violations that axe-core finds."""
    page.evaluate(files("axe_playwright_python").joinpath("axe.min.js").read_text())
    found = page.evaluate("axe.run()")
    assert len(found["passes"]) > 10
    return [
        f"{rule['id']}: {node['html']} {node['failureSummary']}"
        for rule in found["violations"]
        for node in rule["nodes"]
    ]


# --- the page and its functions -------------------------------------------------------------------


def test_the_page_is_small_and_has_no_inline_code() -> None:
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) <= 40 * 1024
    html = (FOLDER / "index.html").read_text()
    assert not re.search(r"<script>|<style>|\son\w+=|\sstyle=|javascript:|https?:", html)
    script = (FOLDER / "page.js").read_text()
    assert not re.search(r"innerHTML|outerHTML|insertAdjacent|document\.write|eval\(", script)


CALLS: dict[str, list[tuple[list[Any], Any]]] = {
    "parseLine": [
        (["<192.0.2.7>hello"], ["say", "192.0.2.7", "", "hello"]),
        (["<192.0.2.7>anna: hello: you"], ["say", "192.0.2.7", "anna", "hello: you"]),
        (["<::1>Anna van Dijk: hi"], ["say", "::1", "Anna van Dijk", "hi"]),
        (["<192.0.2.7>🦊 fox: hi"], ["say", "192.0.2.7", "🦊 fox", "hi"]),
        (["<192.0.2.7>I think of this: no"], ["say", "192.0.2.7", "", "I think of this: no"]),
        (["<192.0.2.7>see https://a.example"], ["say", "192.0.2.7", "", "see https://a.example"]),
        (["<192.0.2.7><192.0.2.8>x: y"], ["say", "192.0.2.7", "", "<192.0.2.8>x: y"]),
        (["<192.0.2.7>192.0.2.8: x"], ["say", "192.0.2.7", "", "192.0.2.8: x"]),
        (["<192.0.2.7>"], ["say", "192.0.2.7", "", ""]),
        (["<room>Stop: now"], ["room", "", "", "Stop: now"]),
        (["Welcome: all"], ["plain", "", "", "Welcome: all"]),
    ],
    "cleanName": [
        (["  anna  "], "anna"),
        (["<b>: an\x00na"], "b an na"),
        (["one two three four"], "one two three"),
        (["x" * 30], "x" * 24),
        (["-- "], ""),
        (["192.0.2.8"], ""),
        (["١٩٢.٠.٢.٨"], ""),
        (["agent 7.5"], "agent 7.5"),
        (["ליאור"], "ליאור"),
    ],
    "messages": [
        (["a\r\nb\n\n  c \n"], ["a", "b", "  c"]),
        ([" \n "], []),
        (["😀" * 1500], ["😀" * 1000, "😀" * 500]),
        (["x" + "😀" * 1000], ["x" + "😀" * 999, "😀"]),
        ([("word " * 500).strip()], ["word " * 400, ("word " * 100).strip()]),
    ],
    "links": [
        (["no link"], []),
        (["(https://a.example/b)."], ["https://a.example/b"]),
        (["https://a.example/w_(x), y"], ["https://a.example/w_(x)"]),
        (["http://a.example?x=1&y=2! https://b.example"], ["http://a.example?x=1&y=2", "https://b.example"]),
        (["javascript:alert(1) xhttps://a.example <https://b.example>"], ["https://b.example"]),
    ],
    "mentioned": [
        (["Hey Anna!", "anna"], True),
        (["@anna", "anna"], True),
        (["Hannah", "anna"], False),
        (["anna2 anna_", "anna"], False),
        (["a.b a+b", "a+b"], True),
        (["any", ""], False),
    ],
    "isEmoji": [
        (["🎉🎉"], True),
        (["👩‍👩‍👧👍🏽 ❤️🇩🇪"], True),
        (["7"], False),
        (["ok 👍"], False),
        ([" "], False),
    ],
    "hue": [(["192.0.2.10"], 60), (["192.0.2.11"], 60)],
}  # fmt: skip


def test_the_functions_of_the_page(here: Here) -> None:
    page = here.page()
    results = page.evaluate(
        """async (calls) => {
          const {parseLine, cleanName, messages, split, mention, hue, isEmoji, LINK} =
            await import(`${location.origin}/page.js`);
          const functions = {
            cleanName, messages, hue, isEmoji,
            parseLine: (line) => {
              const {kind, from, name, text} = parseLine(line);
              return [kind, from, name, text];
            },
            links: (text) => {
              const parts = split(text, LINK);
              if (parts.map((part) => part.text).join("") !== text) throw new Error(text);
              return parts.filter((part) => part.hit).map((part) => part.text);
            },
            mentioned: (text, name) => Boolean(mention(name)?.test(text)),
          };
          return Object.entries(calls).map(([name, cases]) =>
            [name, cases.map(([args]) => functions[name](...args))]);
        }""",
        CALLS,
    )
    found = dict(results)
    one, other = found.pop("hue")
    assert min(abs(one - other), 360 - abs(one - other)) > 30, "similar colours"
    assert found == {
        name: [expected for _, expected in cases] for name, cases in CALLS.items() if name != "hue"
    }


# --- conversation ---------------------------------------------------------------------------------


def test_messages_are_sent_and_displayed(here: Here) -> None:
    """Text is never displayed as HTML. Names, links, unfinished lines and notices are displayed."""
    page, member = here.page("Clara"), here.member()
    say(page, "hello <b>all</b>\nsecond")
    member.expect("<127.0.0.1>Clara: hello <b>all</b>\n<127.0.0.1>Clara: second\n")
    assert texts(page, "own") == ["hello <b>all</b>", "second"]

    member.send("anna: <img src=x onerror=alert(1)> https://a.example/ for clara\n")
    wait_for(page, "say", "<img src=x onerror=alert(1)> https://a.example/ for clara")
    row = page.locator(".row", has=page.locator(".say"))
    expect(row.locator("b")).to_have_text("anna")
    expect(row.locator(".who span")).to_have_text("127.0.0.2")
    expect(row.locator("time")).to_have_text(re.compile(r"\d\d:\d\d"))
    expect(row.locator("mark")).to_have_text("clara")
    expect(row.get_by_role("link")).to_have_attribute("href", "https://a.example/")
    expect(row.get_by_role("link")).to_have_attribute("rel", "noreferrer")
    assert page.locator("img").count() == 0
    member.send("שלום\n")
    assert wait_for(page, "say", "שלום").evaluate("e => getComputedStyle(e).direction") == "rtl"

    member.send("unfinished")
    wait_for(page, "say", "unfinished")
    member.send("next\n")
    wait_for(page, "say", "next")
    assert texts(page, "say")[2:] == ["unfinished", "next"]
    here.command("say", text="Lunch")
    expect(page.locator(".notice.room")).to_have_text("Lunch")
    expect(page.locator(".notice.welcome")).to_have_text(WELCOME.decode().strip())
    assert page.locator(".rule").count() == 1  # today


def test_a_mention_notifies_a_user_who_is_away(here: Here) -> None:
    context = here.context("Clara")
    context.add_init_script(
        """window.calls = [];
        window.AudioContext = function () { throw new Error("sounds are turned off"); };
        window.Notification = class { constructor(...all) { calls.push(all); } };
        Notification.permission = "granted";
        localStorage.chatroom = JSON.stringify({name: "Clara", notify: true});"""
    )
    page, member = here.joined(context), here.member()
    title = page.title()
    member.send("read\n")
    wait_for(page, "say", "read")
    assert page.title() == title
    page.evaluate(LEAVE_THE_PAGE)
    member.send("one\nben: @clara, two\n" + "".join(f"{n}\n" for n in range(60)))
    expect(page).to_have_title(f"@1 (62) {title}")
    calls = page.evaluate("calls")
    assert [(head, rest["body"]) for head, rest in calls] == [("ben", "@clara, two")]
    page.evaluate(RETURN_TO_THE_PAGE)
    expect(page).to_have_title(title)
    # The page scrolls to the first new line, not to the end.
    expect(page.locator(".new + .line .text")).to_have_text("one")
    expect(page.locator(".new")).to_be_in_viewport()
    assert not is_at_end(page)
    page.get_by_role("button", name=re.compile("↓")).click()
    assert is_at_end(page)
    expect(page.locator("#end")).to_be_hidden()


def test_messages_count_as_new_although_their_prefix_has_no_brackets(browser: Browser) -> None:
    """They are not taken for further lines of the welcome."""
    with opened(browser, "--prefix", "{ip}: ") as here:
        page, member = here.page("Clara"), here.member()
        title = page.title()
        page.evaluate(LEAVE_THE_PAGE)
        member.send("one\nfor clara\n")
        wait_for(page, "say", "127.0.0.2: for clara")
        expect(page).to_have_title(f"@1 (2) {title}")
        assert page.locator(".welcome").count() == 1


# --- cut connections ------------------------------------------------------------------------------


def test_a_reload_resumes(here: Here) -> None:
    page, member = here.page("Clara"), here.member()
    member.send("before\n")
    wait_for(page, "say", "before")
    say(page, "mine")
    member.expect("<127.0.0.1>Clara: mine\n")
    page.get_by_label("Message", exact=True).fill("a draft")
    here.cutter.refuses = True
    here.cutter.cut()
    expect(page.locator("#state")).to_have_text("Reconnecting")
    expect(page.locator("#hint")).to_contain_text("wait until")
    say(page, "while away")
    expect(page.locator(".waits .text").last).to_have_text("while away")
    page.get_by_label("Message", exact=True).fill("a draft")
    member.send("missed\n")
    here.cutter.refuses = False
    page.reload()
    wait_for(page, "say", "missed")
    member.expect("<127.0.0.1>Clara: while away\n")
    expect(page.locator(".waits")).to_have_count(0)
    assert texts(page, "say") == ["before", "missed"]
    assert texts(page, "own") == ["mine", "while away"]
    assert page.get_by_label("Message", exact=True).input_value() == "a draft"
    assert page.locator(".notice").count() == 1  # the welcome
    say(page, "again")
    member.expect("<127.0.0.1>Clara: again\n")


def test_cuts_at_random_moments_lose_and_duplicate_nothing(here: Here) -> None:
    page, member = here.page(), here.member()
    chance = random.Random(7)
    said, heard = [], []
    for number in range(12):
        here.cutter.cut_after(chance.randrange(600))
        said += [f"a{number}", f"b{number}", f"c{number}"]
        heard += [f"{number}", f"{number} more"]
        say(page, "\n".join(said[-3:]))
        member.send("".join(f"{line}\n" for line in heard[-2:]))
        wait_for(page, "say", heard[-1])
        if number % 3 == 2:
            here.cutter.cancel_cut()  # the browser must receive the whole page
            page.reload()
    here.cutter.cancel_cut()
    member.expect("".join(f"<127.0.0.1>{line}\n" for line in said))
    expect(page.locator(".waits")).to_have_count(0)
    assert texts(page, "say") == heard
    assert texts(page, "own") == said
    assert member.arrived() == b""


def test_an_expired_session_begins_again(browser: Browser) -> None:
    """The page sends the messages that it has not sent yet. If a message may have arrived, the page
    asks the user."""
    with opened(browser, "--web-keep", 0) as here:
        page, member = here.page(), here.member()
        here.cutter.is_silent = True
        say(page, "doubtful")
        here.cutter.refuses = True
        here.cutter.cut()
        expect(page.locator(".waits")).to_have_count(1)
        say(page, "kept")
        here.cutter.refuses = here.cutter.is_silent = False
        member.expect("<127.0.0.1>kept\n")
        expect(page.locator(".notice.gap")).to_contain_text("joined again")
        page.get_by_role("button", name="Send again").click()
        member.expect("<127.0.0.1>doubtful\n")
        expect(page.locator(".waits")).to_have_count(0)


def test_a_connection_without_answers_is_replaced(here: Here) -> None:
    context = here.context()
    context.clock.install()
    page, member = here.joined(context), here.member()
    with page.expect_websocket() as opening:
        page.reload()
    expect(page.locator("#state")).to_have_text("Connected")
    with opening.value.expect_event("framereceived"):  # the gateway answers the page
        page.clock.run_for(30_000)
    page.clock.run_for(20_000)
    assert not opening.value.is_closed()
    here.cutter.is_silent = True
    member.send("missed\n")
    page.clock.run_for(30_000)
    here.cutter.is_silent = False
    page.clock.run_for(20_000)
    wait_for(page, "say", "missed")


def test_a_clock_that_is_set_back_leads_to_a_new_connection(here: Here) -> None:
    """The time of the last frame is in the future then, so silence would not be noticed."""
    context = here.context()
    context.clock.install()
    page, member = here.joined(context), here.member()
    page.clock.set_system_time(page.evaluate("Date.now()") / 1000 - 3600)
    with page.expect_websocket():
        page.clock.run_for(10_000)
    expect(page.locator("#state")).to_have_text("Connected")
    member.send("hello\n")
    wait_for(page, "say", "hello")


def test_many_accents_cover_no_other_message(here: Here) -> None:
    page, member = here.page(), here.member()
    member.send("anna: hello\n")
    wait_for(page, "say", "hello")
    box = page.locator(".say .text").first.bounding_box()
    assert box is not None
    left, top, height = box["x"] + 4, box["y"] + 4, box["height"] - 8

    def inside() -> bytes:
        return page.screenshot(clip={"x": left, "y": top, "width": 40, "height": height})

    before = inside()
    accents = "é" + "\N{COMBINING ACUTE ACCENT}" * 300
    member.send(f"{accents}\n{accents[:20]}: name\n")
    wait_for(page, "say", "name")
    assert inside() == before


def test_two_tabs_are_two_members(here: Here) -> None:
    """A duplicated tab, which starts with the other tab's storage, is a member of its own, too."""
    context = here.context()
    first, member = here.joined(context), here.member()
    say(first, "one")
    member.expect("<127.0.0.1>one\n")
    stored = first.evaluate("({...sessionStorage})")
    assert stored[KEY]
    copy = context.new_page()
    copy.add_init_script(
        f"if (!sessionStorage.length) Object.assign(sessionStorage, {json.dumps(stored)})"
    )
    copy.goto(here.cutter.url)
    expect(copy.locator("#state")).to_have_text("Connected")
    assert texts(copy, "own") == []
    say(copy, "two")
    wait_for(first, "say", "two")
    say(first, "three")
    wait_for(copy, "say", "three")
    member.expect("<127.0.0.1>two\n<127.0.0.1>three\n")


def test_a_kicked_user_can_join_again(here: Here) -> None:
    page, member = here.page(), here.member()
    here.command("kick", who="127.0.0.1")
    expect(page.locator("#state")).to_have_text("You were kicked")
    page.set_viewport_size({"width": 320, "height": 600})
    assert page.evaluate("document.documentElement.scrollWidth") <= 320
    say(page, "kept")
    expect(page.locator(".waits .text")).to_have_text("kept")
    page.get_by_role("button", name="Join again").click()
    expect(page.locator("#state")).to_have_text("Connected")
    member.expect("<127.0.0.1>kept\n")
    expect(page.locator(".notice.gap")).to_contain_text("joined again")


def test_a_full_room_and_its_earlier_messages(browser: Browser) -> None:
    with opened(browser, "--max-clients", 1, "--history", 5) as here:
        member = here.member()
        page = here.open(here.context("Clara"))
        expect(page.locator("#state")).to_have_text("The room is full")
        member.send("one\nfor Clara\n")
        member.close()
        page.get_by_role("button", name="Join again").click()
        expect(page.locator("#state")).to_have_text("Connected")
        wait_for(page, "say", "for Clara")
        expect(page.locator(".row .text")).to_have_text(
            [
                WELCOME.decode().strip(),
                "2 earlier messages:",
                "one",
                "for Clara",
                "Earlier messages end here.",
            ]
        )


# --- many lines -----------------------------------------------------------------------------------


def test_ten_thousand_lines(here: Here) -> None:
    """The document stays small. The user can reach all lines by search and by scrolling."""
    page, member = here.page(), here.member()
    member.send("".join(f"line {n} of many\n" for n in range(10_000)))
    wait_for(page, "say", "line 9999 of many")
    for start in (10_000, 10_090, 10_180):
        member.send("".join(f"line {n} of many\n" for n in range(start, start + 90)))
        wait_for(page, "say", f"line {start + 89} of many")
        assert page.locator(".row").count() <= 200
    assert is_at_end(page)
    page.locator("#log").press("/")
    page.get_by_role("searchbox").fill("LINE 1234")
    expect(page.locator("#found")).to_have_text("1 found")
    expect(page.locator("mark")).to_have_text(["line", "1234"])
    page.get_by_role("button", name="Show").click()
    expect(page.locator(".row:focus .text")).to_have_text("line 1234 of many")
    assert page.locator(".row").count() <= 200
    # Scrolling up keeps the lines contiguous and the document small.
    for _ in range(6):
        first = page.locator(".say .text").first
        number = first.inner_text()
        page.evaluate("document.getElementById('log').scrollTop = 0")
        expect(first).not_to_have_text(number)
    rows = [int(text.split()[1]) for text in texts(page, "say")]
    assert rows == list(range(rows[0], rows[0] + len(rows)))
    assert rows[0] < 1200
    assert len(rows) <= 200
    say(page, "back at the end")
    assert is_at_end(page)
    expect(page.locator(".row").last.locator(".text")).to_have_text("back at the end")


# --- sizes, colours, accessibility ----------------------------------------------------------------


def test_every_size_and_both_colours_are_accessible(here: Here) -> None:
    """The page fits into 320 and 1100 px. axe-core finds no violation in light and dark colours,
    with and without the search and the settings."""
    page, member = here.page("Clara", viewport={"width": 1100, "height": 700}), here.member()
    say(page, "mine")
    member.expect("<127.0.0.1>Clara: mine\n")
    long = "word" * 200
    member.send(f"anna: {long}\nhi Clara https://a.example/{long}\nmore\n🎉\n")
    wait_for(page, "say", "🎉")
    here.command("say", text="A notice")
    expect(page.locator(".notice.room")).to_have_count(1)
    for width in (320, 1100):
        page.set_viewport_size({"width": width, "height": 600})
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.evaluate("document.getElementById('log').scrollWidth") <= width
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        back = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (sum(map(int, re.findall(r"\d+", back))) < 384) == (scheme == "dark")
        assert accessible(page) == []
        page.get_by_role("button", name="Search").click()
        page.get_by_role("searchbox").fill("clara")
        expect(page.locator("mark")).to_have_count(1)
        page.get_by_role("button", name="Settings").click()
        assert accessible(page) == []
        page.keyboard.press("Escape")
        page.keyboard.press("Escape")


def test_the_page_can_be_used_with_the_keyboard_alone(here: Here) -> None:
    """The user sets a name and sends lines. A copy of the log has plain text."""
    context = here.context()
    page, member = here.joined(context), here.member()
    expect(page.locator("#text")).to_be_focused()
    page.keyboard.press("Shift+Tab")
    expect(page.get_by_role("button", name="Your name")).to_be_focused()
    page.keyboard.press("Enter")
    page.keyboard.type("  <Clara>: ")
    page.keyboard.press("Enter")
    expect(page.locator("#me")).to_have_text("Clara")
    page.locator("#log").focus()
    page.keyboard.type("typed")
    page.keyboard.press("Shift+Enter")
    page.keyboard.type("in two lines")
    page.keyboard.press("Enter")
    member.expect("<127.0.0.1>Clara: typed\n<127.0.0.1>Clara: in two lines\n")
    member.send("anna: one\ntwo\n")
    wait_for(page, "say", "two")
    copied = page.evaluate(
        """() => {
          getSelection().selectAllChildren(document.getElementById("log"));
          const data = new DataTransfer();
          const event = new ClipboardEvent("copy", {clipboardData: data, bubbles: true});
          document.getElementById("log").dispatchEvent(event);
          return data.getData("text/plain");
        }"""
    )
    welcome = WELCOME.decode()
    assert copied == f"{welcome}Clara: typed\nClara: in two lines\nanna: one\n127.0.0.2: two"
    page.reload()  # the name stays
    expect(page.locator("#me")).to_have_text("Clara")
