"""The patterns and the profile that `probe` derives from the output of a server."""

import re
from dataclasses import replace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from harness import profile
from harness.probe.findings import Delivery, Findings, as_toml, prefix_of, question_of
from harness.probe.patterns import common_begin, pattern


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        ([], ""),
        ([b"", b""], ""),
        ([b"Hi.\n"], r"Hi\.\n"),
        ([b"", b"Hi.\n"], r"Hi\.\n"),
        ([b"<127.0.0.2>", b"<127.0.0.3>"], r"<\d+\.\d+\.\d+\.\d+>"),
        ([b"user 9: ", b"user 10: "], r"user \d+: "),
        ([b"already: nobody.\n", b"already: 127.0.0.2.\n"], r"already: .*\n"),
        ([b"one\nab\n", b"one\nac\n"], r"one\na.*\n"),
        ([b"one\n", b"one\ntwo\n"], r"one\n.*(?:\n)?"),
        ([b"\x1b[1mbold\r\n\xff\xc3\xa9"], r"\x1b\[\dmbold\x0d\n\xffé".replace(r"\d", r"\d+")),
        ([b"a\\nb"], r"a\\nb"),
    ],
)
def test_patterns(texts: list[bytes], expected: str) -> None:
    assert pattern(texts) == expected


heard = st.binary() | st.text("ab1.\\nd*\n\x1b\r<>' é\u2028\"").map(str.encode)


@given(st.lists(heard))
@example([b"one\n", b"one\ntwo\nthree"])
@example([b"a\\n", b"a\\d"])
@example([b"a\xff", b"a\xfe"])
@example([b"(1", b"(x"])
def test_a_pattern_matches_every_text_from_which_it_was_made(texts: list[bytes]) -> None:
    found = re.compile(pattern(texts).encode())
    assert all(found.fullmatch(text) for text in texts if text)


@given(st.text(), st.lists(heard), st.lists(heard), st.lists(heard.map(lambda text: text + b"\n")))
@example("x\ny\ud800", [b"it's\n", b"it's 1"], [b'"it\'s"\\ '], [b"a\x7f'\n"])
def test_the_written_toml_is_a_valid_profile(
    name: str, welcomes: list[bytes], prefixes: list[bytes], notices: list[bytes]
) -> None:
    notices = [line.replace(b"\n", b"") + b"\n" for line in notices]
    deliveries = [Delivery(before.replace(b"\n", b"")) for before in prefixes]
    findings = Findings(
        welcomes=welcomes, deliveries=deliveries, notices=notices, claims=["LINE-2"]
    )
    text = as_toml(name, findings)
    text.encode()
    made = profile.parse(text, "made")
    assert made.claims == {"LINE-2"}
    if made.welcome:
        assert all(made.welcome.fullmatch(welcome) for welcome in welcomes if welcome)
    else:  # there are no welcomes, or their pattern would match any text
        assert re.fullmatch(pattern(welcomes).encode(), b"")
    for delivery in deliveries:
        assert made.prefix.fullmatch(delivery.before) or not delivery.before


def people(*befores: bytes) -> list[Delivery]:
    """Return two deliveries for each prefix, as if each prefix had another sender."""
    return [
        Delivery(before, b"ann" if "a" in str(port) else b"", b"127.0.0.%d" % port, 5000 + port)
        for port, before in enumerate(befores)
        for _ in range(2)
    ]


@pytest.mark.parametrize(
    ("befores", "expected", "identity"),
    [
        ([b"", b""], "", "none"),
        ([b"> ", b"> "], "> ", "none"),
        ([b"message: ", b"message: "], "message: ", "none"),
        ([b"[12:01] ", b"[12:02] "], r"\[\d+(?::\d+){1,2}(?:\.\d+)?(?: ?[AP]M)?\] ", "none"),
        ([b"guest: ", b"guest: "], "guest: ", "name"),
        ([b"None: ", b"None: "], "None: ", "name"),
        ([b"[127.0.0.9] ", b"[127.0.0.9] "], r"\[\d+\.\d+\.\d+\.\d+\] ", "name"),
        ([b"<127.0.0.0>", b"<127.0.0.1>"], r"<[^<>\n]*>", "address"),
        ([b"<127.0.0.9>", b"<127.0.0.9>"], r"<[^<>\n]*>", "address"),
        ([b"<127.0.0.1>", b"<127.0.0.0>"], r"<[^<>\n]*>", "address"),
        ([b"[127.0.0.0] ", b"[127.0.0.1] "], r"\[(?P<ip>\d+\.\d+\.\d+\.\d+)\] ", "name"),
        (
            [b"127.0.0.0:5000: ", b"127.0.0.1:5001: "],
            r"(?P<ip>\d+\.\d+\.\d+\.\d+):(?P<port>\d+): ",
            "name",
        ),
        ([b"guest: ", b"guest2: ", b"guest3: "], r"(?P<name>\w+): ", "name"),
        ([b"[Client 3] ", b"[Client 4] "], r"\[Client (?P<name>\w+)\] ", "name"),
        ([b"anna the 1st> ", b"bob> "], r"(?P<name>[^\n>]+)> ", "name"),
        (
            [b"[12:01] guest: ", b"[12:02] guest2: "],
            r"\[\d+(?::\d+){1,2}(?:\.\d+)?(?: ?[AP]M)?\] (?P<name>\w+): ",
            "name",
        ),
    ],
)
def test_prefix_of_returns_a_pattern_that_names_the_sender(
    befores: list[bytes], expected: str, identity: str
) -> None:
    assert prefix_of(people(*befores)) == (expected, identity)
    assert all(re.fullmatch(expected.encode(), before) for before in befores)


@pytest.mark.parametrize(
    ("befores", "name", "is_wrong"),
    [
        ([b"message: ", b"message: "], b"", False),
        ([b"message: ", b"message: "], b"ann", True),
        ([b"guest: ", b"guest: "], b"", True),
        ([b"<127.0.0.9>", b"<127.0.0.9>"], b"", True),
        ([b"guest: ", b"guest2: "], b"", False),
        ([b"ann: ", b"ann: "], b"bob", True),
    ],
)
def test_one_prefix_for_all_senders_is_wrong_if_it_should_name_the_sender(
    befores: list[bytes], name: bytes, is_wrong: bool
) -> None:
    """PREFIX-2 must be judged, and fail."""
    deliveries = [replace(each, name=name) for each in people(*befores)]
    text = as_toml("it", Findings(deliveries=deliveries))
    assert ("# All senders had the same prefix, so PREFIX-2 will fail." in text) == is_wrong
    assert not is_wrong or "PREFIX-2" not in profile.parse(text, "it").inapplicable()


def test_senders_with_one_address_may_share_their_prefix() -> None:
    deliveries = [Delivery(b"[10.0.0.1] ", b"", b"10.0.0.1", port) for port in (5000, 5001)]
    assert prefix_of(deliveries) == (r"\[(?P<ip>\d+\.\d+\.\d+\.\d+)\] ", "name")
    assert "# All" not in as_toml("it", Findings(deliveries=deliveries))


def test_a_wrong_name_in_all_prefixes_does_not_become_part_of_the_pattern() -> None:
    names = [b"ann", b"bob"]
    deliveries = [Delivery(b"bob: ", name, b"", port) for port, name in enumerate(names)]
    assert prefix_of(deliveries) == (r"\w+: ", "name")


def test_the_prefix_may_contain_the_name_of_a_login() -> None:
    deliveries = [
        Delivery(b"(9:59:01 AM) ann says: ", b"ann", b"", 1),
        Delivery(b"(10:00:00 AM) Bob says: ", b"bob", b"", 2),
    ]
    made, identity = prefix_of(deliveries)
    assert identity == "name"
    assert [re.fullmatch(made.encode(), each.before)["name"] for each in deliveries] == [  # type: ignore[index]
        b"ann",
        b"Bob",
    ]


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        ([b"", b""], ""),
        ([b"Hi!\nName? ", b"Hi!\nName? "], r"Name\? "),
        ([b"Name:\n", b"Name:\n"], r"Name:\n"),
        ([b"You are user 1: ", b"You are user 2: "], r"You are user \d+: "),
        ([b"Password for ann: ", b"Password for bob: "], r"Password for \w+: "),
    ],
)
def test_a_question_is_the_last_line_of_the_output(texts: list[bytes], expected: str) -> None:
    assert question_of(texts, [b"ann", b"bob"]) == expected


@given(st.lists(st.binary(max_size=4), min_size=1))
def test_common_begin_returns_the_longest_common_prefix(texts: list[bytes]) -> None:
    begin = common_begin(texts)
    assert all(text.startswith(begin) for text in texts)
    assert len({text[: len(begin) + 1] for text in texts}) > 1 or begin in texts


@pytest.mark.parametrize(
    ("text", "is_welcome"), [(b"%s has joined.\n", False), (b"Welcome, %s!\n", True)]
)
def test_a_notice_about_a_newcomer_is_no_welcome(text: bytes, is_welcome: bool) -> None:
    findings = Findings(
        welcomes=[text % b"ann", text % b"bob"], notices=[text % b"bob"], names=[b"ann", b"bob"]
    )
    made = profile.parse(as_toml("it", findings), "it")
    assert bool(made.welcome) == is_welcome
    assert len(made.notices) == 1


@pytest.mark.parametrize(
    ("notice", "is_kept"),
    [(b"ann:joined\n", True), (b"ann:\n", False), (b"ann:bob\n", False), (b"\n", False)],
)
def test_a_notice_that_is_like_a_message_is_left_out(notice: bytes, is_kept: bool) -> None:
    findings = Findings(
        deliveries=[Delivery(b"ann:", b"ann"), Delivery(b"bob:", b"bob")],
        notices=[notice, notice.replace(b"ann", b"bob")],
        names=[b"ann", b"bob"],
    )
    made = profile.parse(as_toml("it", findings), "it")
    assert bool(made.notices) == is_kept


def test_an_echo_has_the_pattern_of_the_prefix_if_that_matches() -> None:
    deliveries = people(b"No Name: ", b"No Name4: ")
    made = profile.parse(as_toml("it", Findings(deliveries=deliveries, own=deliveries)), "it")
    assert made.echo
    assert not made.echo.fullmatch(b"No Name4: hello")
    assert all(made.echo.fullmatch(each.before) for each in deliveries)
    own = [Delivery(b"You: ")]
    made = profile.parse(as_toml("it", Findings(deliveries=deliveries, own=own)), "it")
    assert made.echo == re.compile(b"You: ")


def test_names_of_the_clients_vary_in_a_welcome() -> None:
    assert pattern([b"Hi ann, 1 here\n", b"Hi bob, 2 here\n"], [b"ann", b"bob"]) == (
        r"Hi \w+, \d+ here\n"
    )
