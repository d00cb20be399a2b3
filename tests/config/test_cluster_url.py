"""Tests of the URLs of clusters."""

import pytest

from chatroom.config.cluster_url import ClusterURL
from chatroom.config.options import SettingsError
from chatroom.config.settings import Settings
from chatroom.config.sizes import KIB, MIB


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("nats://h/lan", ClusterURL("nats", ("h:4222",), "lan")),
        ("tls://h:1,[::1]:2,192.0.2.1/a_B-9", ClusterURL(
            "tls", ("h:1", "[::1]:2", "192.0.2.1:4222"), "a_B-9"
        )),
        ("nats://me:s%40cret:x@h/r", ClusterURL("nats", ("h:4222",), "r", "me", "s%40cret:x")),
        ("nats://token@h/r", ClusterURL("nats", ("h:4222",), "r", "token")),
    ],
)  # fmt: skip
def test_a_url_is_parsed(text: str, expected: ClusterURL) -> None:
    assert ClusterURL.parse(text) == expected


@pytest.mark.parametrize(
    ("text", "demand"),
    [
        ("", "nats://HOST:PORT/ROOM, or tls://HOST:PORT/ROOM"),
        ("redis://h/r", "nats://HOST:PORT/ROOM, or tls://HOST:PORT/ROOM"),
        ("nats://h", "nats://HOST:PORT/ROOM, or tls://HOST:PORT/ROOM"),
        ("nats://a,,b/r", "a URL with servers such as 192.0.2.1:4222, not ''"),
        ("nats://h:0/r", "a URL with servers such as 192.0.2.1:4222, not 'h:0'"),
        ("nats://h:99999/r", "a URL with servers such as 192.0.2.1:4222, not 'h:99999'"),
        ("nats://h/", "a URL that ends with the room's name: 1 to 64 letters, digits, _ or -"),
        ("nats://h/a.b", "not 'a.b'"),
        ("nats://h/r\n", "not 'r\\n'"),
    ],
)
def test_an_invalid_url_is_a_one_line_error(text: str, demand: str) -> None:
    with pytest.raises(ValueError, match=r"^[^\n]+$") as error:
        ClusterURL.parse(text)
    assert demand in str(error.value)


def test_no_message_shows_a_password() -> None:
    assert str(ClusterURL.parse("tls://me:secret@h,i:1/r")) == "tls://h:4222,i:1/r"
    for wrong in ("nats://me:secret@h/", "nats://me:secret@a b/r", "nats://me:secret@h:0/r"):
        with pytest.raises(ValueError) as error:  # noqa: PT011
            ClusterURL.parse(wrong)
        assert "secret" not in str(error.value)


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"max_line": 128 * KIB}, "max_line"),
        ({"log_size": 5 * MIB}, "log_size"),
    ],
)
def test_a_publication_must_fit_into_a_message_and_into_the_log(
    options: dict[str, int], name: str
) -> None:
    """These sizes are valid in a room without a cluster."""
    Settings(**options)  # type: ignore[arg-type]
    with pytest.raises(SettingsError) as error:
        Settings(cluster=ClusterURL.parse("nats://h/r"), **options)  # type: ignore[arg-type]
    assert error.value.name == name


def test_the_largest_run_fits_into_a_message() -> None:
    """The largest run is a read of empty lines after an unfinished line of control characters."""
    settings = Settings(
        cluster=ClusterURL.parse("nats://h/r"), max_line=64 * KIB, room_rate=0, prefix="{ip}" * 3
    )
    prefix = len("1111:2222:3333:4444:5555:6666:7777:8888") * 3
    assert settings.read_size * (prefix + 1) + 3 * settings.max_line < MIB // 2
