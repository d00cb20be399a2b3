"""Tests of a room's settings: their bounds, and the sizes that are computed from them."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis.strategies import builds, integers, sampled_from, tuples

from chatroom.config.limits import MAX_READ, MAX_WORKERS
from chatroom.config.options import MAX_WELCOME, OPTIONS, Reload, SettingsError
from chatroom.config.settings import Settings
from chatroom.config.sizes import KIB, MIB, PAGE
from chatroom.log.ring import Geometry
from chatroom.log.room_rate import RoomRate
from chatroom.log.slots import Slots
from chatroom.protocol.framing import Framer
from chatroom.protocol.message import render
from chatroom.protocol.text import sanitize

LONGEST_PREFIX = b"<2001:db80:1111:2222:3333:4444:5555:6666>"


def room(**options: Any) -> Settings:
    return Settings(**options)


# --- bounds --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("prefix", ["<{ip}>", "{ip}:{port} ", "x" * 128], ["", "{x}", "x" * 129, "\n"]),
        ("workers", [1, MAX_WORKERS], [0, -1, MAX_WORKERS + 1]),
        (
            "welcome",
            ["", "Hello, wörld 👋", "x" * (MAX_WELCOME - 1)],
            ["a\nb", "\x1b[2J", "x" * MAX_WELCOME],
        ),
        ("welcome", ["é" * 511], ["é" * 512, "\N{RIGHT-TO-LEFT OVERRIDE}", "\udcff"]),
        ("max_clients", [1, 10**9], [0, -1]),
        ("max_clients_per_address", [0, 1, 10**9], [-1]),
        ("max_line", [64, 2048, 512 * KIB], [0, 63, MIB + 1]),
        ("flush_after", [0.001, 60], [0, -1, 60.1, float("inf"), float("nan")]),
        ("rate", [0, 64, 1 << 40], [1, 63, -1]),
        ("burst", [KIB, 1 << 40], [0, KIB - 1]),
        ("watchdog", [0, 0.5, 3600], [-1, 0.4, 3600.1, float("inf"), float("nan")]),
        ("peer_timeout", [0, 2, 65535], [-1, 1, 65536]),
        ("max_lag", [8 * KIB, 16 * MIB - 128 * KIB], [8 * KIB - 1]),
        ("log_size", [4 * MIB + 128 * KIB, 1 << 40], [4 * MIB + 128 * KIB - 1]),
    ],
)
def test_a_setting_out_of_range_is_an_error_that_names_it(
    name: str, good: list[Any], bad: list[Any]
) -> None:
    for value in good:
        assert getattr(room(**{name: value}), name) == value
    for value in bad:
        with pytest.raises(SettingsError) as raised:
            room(**{name: value})
        assert raised.value.name == name
        assert str(raised.value)


def test_a_log_of_64k_is_the_smallest_one() -> None:
    smallest = room(max_line=64, max_lag=64, log_size=64 * KIB)
    assert smallest.kept == 64 + (64 * KIB - 64) // 8
    assert smallest.window == 64 * KIB - smallest.kept
    with pytest.raises(SettingsError, match="64K or more"):
        room(max_line=64, max_lag=64, log_size=64 * KIB - 1)


@pytest.mark.parametrize("lag", [8 * KIB, 4 * MIB, 20 * MIB])
def test_the_minimum_log_size_in_an_error_is_accepted(lag: int) -> None:
    with pytest.raises(SettingsError) as raised:
        room(max_lag=lag, log_size=0)
    least = next(int(word.rstrip(":")) for word in str(raised.value).split() if word[:1].isdigit())
    assert room(max_lag=lag, log_size=least).log_size == least
    with pytest.raises(SettingsError):
        room(max_lag=lag, log_size=least - 1)


# --- while a room runs ---------------------------------------------------------------------------


def test_a_running_room_applies_only_settings_that_may_change() -> None:
    running = room(workers=2, rate=1000, log_size=32 * MIB)
    wanted = room(workers=3, rate=2000, welcome="Hi", quiet=True, max_line=KIB, log_size=32 * MIB)
    now, taken, others = running.renewed(wanted)
    assert now == room(workers=2, rate=2000, welcome="Hi", log_size=32 * MIB)
    assert (taken, others) == (["welcome", "rate"], ["max_line", "quiet"])
    assert now.renewed(wanted) == (now, [], ["max_line", "quiet"])
    assert running.renewed(running) == (running, [], [])


def test_renewed_settings_keep_the_geometry_of_shared_memory() -> None:
    """A reload changes neither the sizes of shared memory nor the number of seats."""
    running = room()
    taken = {
        "welcome": "x" * 1023,
        "history": 10,
        "max_clients_per_address": 1,
        "flush_after": 1.0,
        "rate": 0,
        "burst": KIB,
        "room_rate": 0,
        "watchdog": 0.0,
        "peer_timeout": 0,
        "verbose": True,
    }
    live = (Reload.AT_ONCE, Reload.NEW_MEMBERS)
    assert taken.keys() == {option.name for option in OPTIONS if option.reload in live}
    now, *_ = running.renewed(room(**taken))
    assert now == room(**taken)
    assert Geometry.of(now.limits) == Geometry.of(running.limits)
    assert Slots.file_size(now.limits) == Slots.file_size(running.limits)
    assert RoomRate.file_size(now.limits) == RoomRate.file_size(running.limits)
    assert (now.seats, now.input_size) == (running.seats, running.input_size)


# --- derived sizes -------------------------------------------------------------------------------


def test_welcome_4_the_welcome_ends_with_a_line_end() -> None:
    assert room().greeting == b"Welcome to socket practice\n"
    assert room(welcome="Grüß Gott").greeting == "Grüß Gott\n".encode()
    assert room(welcome="").greeting == b"\n"


def rooms(max_line: int, more_lag: int, more_log: int) -> Settings:
    lag = max_line + more_lag
    return room(
        max_line=max_line,
        max_lag=lag,
        log_size=max(lag + 16 * max_line, 64 * KIB) + more_log,
    )


any_room = builds(
    lambda sizes: rooms(*sizes),
    tuples(
        integers(64, MIB),
        sampled_from([0, 1, 64, 4 * MIB]) | integers(0, 64 * MIB),
        sampled_from([0, 1, 255, 256, 16 * MIB]) | integers(0, 64 * MIB),
    ),
)


def most_rendered(settings: Settings) -> int:
    """Return the maximum number of bytes that one read adds to the log.

    In the worst case, the read ends a line of control characters, each of which takes three bytes
    in the log. The rest of the read is empty lines.
    """
    prefixed = len(LONGEST_PREFIX) + len(b"\n")
    return 3 * settings.max_line + settings.read_size * prefixed + prefixed


@given(any_room)
def test_a_batch_always_fits_when_the_other_workers_have_caught_up(settings: Settings) -> None:
    # An LF that ends another sender's line may come before the batch.
    assert 1 + settings.batch + most_rendered(settings) <= settings.window
    window_in_entries = settings.log_entries - settings.kept_entries
    # Each read is one entry in the log. Text that is delivered after a silence (LINE-5) is another
    # entry.
    assert 1 + settings.batch_entries + 1 <= window_in_entries


@given(any_room)
def test_every_room_has_positive_limits_for_reads_batches_and_lag(settings: Settings) -> None:
    assert 0 < settings.read_size <= MAX_READ
    assert settings.batch > 0
    assert settings.batch_entries > 0
    assert settings.max_lag_entries > 0


@given(any_room)
def test_load_4_the_log_does_not_lap_the_checkpoint_of_a_lagging_member(
    settings: Settings,
) -> None:
    """Workers may append `window` bytes beyond the position of the slowest worker."""
    for whole, window, lag, every in (
        (settings.log_size, settings.window, settings.max_lag, settings.checkpoint_every),
        (
            settings.log_entries,
            settings.log_entries - settings.kept_entries,
            settings.max_lag_entries,
            settings.checkpoint_every_entries,
        ),
    ):
        assert every > 0
        assert window > 0
        assert window + every + lag <= whole


@given(any_room, sampled_from([b"a", b"\r", b"\xe2\x82\xac", b"\xf0\x9f\x91\x8b\r"]))
def test_load_4_a_slot_holds_all_input_that_is_not_appended_yet(
    settings: Settings, flood: bytes
) -> None:
    """The slot must also take the next read, which overwrites the oldest input."""
    framer = Framer(settings.max_line)
    most = settings.max_line + 2 * settings.read_size
    stream = flood * (most // len(flood) + 1)
    for begin in range(0, most, settings.read_size):
        framer.feed(stream[begin : begin + settings.read_size])
        assert framer.fed - framer.framed + settings.read_size <= settings.input_size
    assert settings.input_size % PAGE == 0, "its memory is freed by pages"


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param(rooms(64, 0, 0), id="smallest"),
        pytest.param(rooms(8 * KIB, 0, 0), id="tight"),
        pytest.param(room(), id="default"),
    ],
)
@pytest.mark.parametrize(
    "flood", [b"\n", b"\0", b"\xff", b"\0\n", b"\r\n", "€\0".encode(), b"\r"], ids=ascii
)
@pytest.mark.parametrize("waiting", [b"\0", b"\xff", b"a"], ids=ascii)
def test_no_flood_is_rendered_larger_than_the_computed_maximum(
    settings: Settings, flood: bytes, waiting: bytes
) -> None:
    framer = Framer(settings.max_line)
    framer.feed(waiting * settings.max_line)
    read = (flood * settings.read_size)[: settings.read_size]
    assert len(render(LONGEST_PREFIX, sanitize(framer.feed(read)))) <= most_rendered(settings)
