"""Tests of the prefix before each message, in the form that an option sets."""

import pytest
from hypothesis import given
from hypothesis.strategies import integers, ip_addresses

from chatroom.protocol.prefix import FORM, check, longest, prefix


@pytest.mark.parametrize(
    ("form", "found"),
    [
        (FORM, "<192.0.2.7>"),
        ("[{id}] ", "[12] "),
        ("{ip}:{port}#{id}{ip}> ", "192.0.2.7:5000#12192.0.2.7> "),
        ("{{{id}}} ", "{12} "),
        ("someone: ", "someone: "),
        ("→{ip} ", "→192.0.2.7 "),
    ],
)
def test_prefix_1_a_prefix_is_filled_in_from_the_room_s_form(form: str, found: str) -> None:
    check(form)
    assert prefix(form, "192.0.2.7", 5000, 12) == found


@pytest.mark.parametrize(
    "form",
    [
        "",
        "{",
        "}",
        "{}",
        "{0}",
        "{name}",
        "{ip!r}",
        "{ip:>9}",
        "{ip.real}",
        "{id[0]}",
        "a\n",
        "\x1b",
    ],
)
def test_an_invalid_form_is_an_error(form: str) -> None:
    with pytest.raises(ValueError, match=r"text without control characters; it may hold \{ip\}, "):
        check(form)


@given(ip_addresses(), integers(0, 65535), integers(1, 2**63))
def test_no_prefix_exceeds_the_maximum_length(address: object, port: int, id: int) -> None:
    for form in (FORM, "→{ip}:{port}#{id} "):
        assert len(prefix(form, str(address), port, id).encode()) <= longest(form)
