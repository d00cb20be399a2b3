"""The judge finds violations; what the protocol allows is undecided or passes."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import ClassVar

import pytest
from hypothesis import assume, given
from hypothesis.strategies import integers, sampled_from

from harness.profile import load
from harness.simulation.judge.connections import KERNELS
from harness.simulation.judge.judgement import SHOWN
from harness.simulation.scenario.vocabulary import harmless
from tests.harness.simulation.story import Story


def test_a_room_where_all_is_well() -> None:
    story = Story(3)
    for name in ("0.0", "1.0", "0.1", "2.0"):
        story.say(name)
    story.all_hear("0.0", "1.0", "0.1", "2.0")
    judgement = story.judged()
    assert judgement.violations == []
    assert (judgement.messages, judgement.deliveries, judgement.undecided) == (4, 8, 0)


# --- CAST-1: everyone else, once -----------------------------------------------------------------


def test_cast_1_what_who_stays_does_not_hear_is_lost() -> None:
    story = Story(3)
    story.say("0.0")
    story.say("0.1")
    story.hear(1, "0.0", "0.1")
    story.hear(2, "0.1")
    (lost,) = story.judged().violations
    assert (lost.kind, lost.clause, lost.who, lost.message) == ("lost", "CAST-1", 2, "0.0")
    assert lost.says == (
        "message 0.0 of 127.0.0.2 never reached session 2 (127.0.0.4), which heard 0.1"
    )


def test_cast_1_what_nobody_hears_is_lost_too() -> None:
    story = Story(3)
    story.say("0.0")
    assert story.found() == {"lost": 2}


def test_cast_1_who_leaves_may_miss_what_was_on_the_way() -> None:
    story = Story(3)
    story.say("0.0")
    story.say("0.1")
    story.hear(1, "0.0", "0.1")
    story.hear(2, "0.0")
    story.what(2, "leaves", how="close")
    assert story.found() == {"undecided": 1}


def test_cast_4_who_leaves_has_lost_what_came_before_what_it_heard_of_the_same_sender() -> None:
    story = Story(3)
    story.say("0.0")
    story.say("0.1")
    story.hear(2, "0.1")
    story.what(2, "leaves", how="close")
    story.hear(1, "0.0", "0.1")
    assert story.found() == {"lost": 1}


def test_cast_5_who_leaves_has_lost_what_another_heard_before_what_it_heard() -> None:
    story = Story(4)
    story.say("0.0")
    story.say("1.0")
    story.hear(3, "1.0")
    story.what(3, "leaves", how="reset")
    story.hear(2, "0.0", "1.0")
    story.hear(0, "1.0")
    story.hear(1, "0.0")
    assert story.found() == {"lost": 1}


def test_what_is_said_after_one_has_left_is_not_for_it() -> None:
    story = Story(2)
    story.what(1, "leaves", how="close")
    story.say("0.0")
    assert story.found() == {}


def test_welcome_3_what_is_said_while_one_joins_may_reach_it_or_not() -> None:
    for hears in (True, False):
        story = Story(2)
        story.connect(2)
        story.say("0.0")
        story.what(2, "welcomed")
        story.hear(1, "0.0")
        if hears:
            story.hear(2, "0.0")
        assert story.found() == ({} if hears else {"undecided": 1})


def test_welcome_3_what_was_said_before_one_came_is_not_for_it() -> None:
    story = Story(2)
    story.say("0.0")
    story.hear(1, "0.0")
    story.join(2)
    assert story.found() == {}


def test_welcome_3_what_is_said_after_the_welcome_is_due() -> None:
    story = Story(2)
    story.join(2)
    story.say("0.0")
    story.hear(1, "0.0")
    assert story.found() == {"lost": 1}


@pytest.mark.parametrize("how", ["reset", "unsent", "cut off"])
def test_who_is_cut_off_may_not_have_been_heard(how: str) -> None:
    story = Story(2)
    story.join(2, "cut-off" if how == "cut off" else None)
    story.say("2.0", sent=how != "unsent")
    if how == "cut off":
        story.fault("cut-off", who=2)
    else:
        story.what(2, "leaves", how="reset")
    assert story.found() == {"undecided": 2}
    story.hear(0, "2.0")
    assert story.found() == {"lost": 1}, "a message that one has heard is due to all"


def test_leave_2_what_was_sent_before_one_closed_is_due() -> None:
    story = Story(3)
    story.say("2.0")
    story.what(2, "leaves", how="close")
    assert story.found() == {"lost": 2}


def test_leave_2_what_was_sent_before_one_closed_its_side_is_due() -> None:
    story = Story(3)
    story.say("2.0")
    story.what(2, "leaves", how="half-close")
    story.what(2, "ended", how="closed")
    assert story.found() == {"lost": 2}


def test_what_a_restart_has_ended_may_not_have_been_heard() -> None:
    story = Story(3)
    story.say("2.0")
    story.what(2, "leaves", how="half-close")
    story.fault("restart")
    for who in range(3):
        story.what(who, "ended", how="closed")
    story.fault("restart", "ends")
    assert story.found() == {"undecided": 2}


def test_what_comes_by_a_bad_network_may_not_have_come_yet() -> None:
    story = Story(2)
    story.join(2, "drip")
    story.say("2.0")
    story.say("2.1")
    assert story.found() == {"undecided": 4}
    story.hear(0, "2.1")
    assert story.found() == {"lost": 3}
    story.hear(1, "2.0")
    assert story.found() == {"lost": 2}


def test_welcome_3_who_has_heard_something_while_it_joined_hears_what_comes_behind() -> None:
    story = Story(3)
    story.connect(3)
    for name in ("0.0", "0.1", "1.0", "0.2"):
        story.say(name)
    story.what(3, "welcomed")
    for who in (1, 2):
        story.hear(who, *(n for n in ("0.0", "0.1", "1.0", "0.2") if n[0] != str(who)))
    story.hear(0, "1.0")
    story.hear(3, "0.1", "0.2")
    (lost,) = story.judged().violations
    assert (lost.who, lost.message) == (3, "1.0")
    assert "which heard 0.2, a later one in the order of session" in lost.says
    assert story.judged().undecided == 1, "message 0.0 may have come before the join"


def test_welcome_3_what_was_on_the_way_when_one_came_may_reach_it_or_not() -> None:
    story = Story(2)
    story.say("0.0", sent=False)
    story.connect(2)
    story.add(who=0, sent="0.0", gap=0.0)
    story.what(2, "welcomed")
    story.hear(1, "0.0")
    assert story.found() == {"undecided": 1}


def test_where_there_is_no_one_order_it_proves_nothing_about_who_left() -> None:
    story = Story(5)
    story.say("0.0")
    story.say("1.0")
    story.hear(2, "0.0", "1.0")
    story.hear(3, "1.0", "0.0")
    story.hear(4, "1.0")
    story.what(4, "leaves", how="close")
    story.hear(0, "1.0")
    story.hear(1, "0.0")
    assert story.found() == {"misordered": 1, "undecided": 1}


def test_cast_1_what_is_heard_twice_is_doubled() -> None:
    story = Story(2)
    story.say("0.0")
    story.hear(1, "0.0")
    story.hear(1, "0.0")
    (doubled,) = story.judged().violations
    assert (doubled.kind, doubled.who, doubled.message) == ("duplicated", 1, "0.0")


# --- CAST-2, CAST-4, CAST-5 ----------------------------------------------------------------------


def test_cast_2_an_echo() -> None:
    story = Story(2)
    story.say("0.0")
    story.hear(1, "0.0")
    story.hear(0, "0.0")
    assert story.found() == {"echoed": 1}


def test_cast_4_one_sender_s_messages_in_another_order() -> None:
    story = Story(3)
    story.say("0.0")
    story.say("0.1")
    story.hear(1, "0.0", "0.1")
    story.hear(2, "0.1", "0.0")
    (wrong,) = story.judged().violations
    assert (wrong.kind, wrong.clause, wrong.who, wrong.message) == (
        "misordered",
        "CAST-4",
        2,
        "0.0",
    )


def test_cast_5_two_who_disagree_about_two_senders() -> None:
    story = Story(4)
    story.say("0.0")
    story.say("1.0")
    story.hear(2, "0.0", "1.0")
    story.hear(3, "1.0", "0.0")
    story.hear(0, "1.0")
    story.hear(1, "0.0")
    (wrong,) = story.judged().violations
    assert (wrong.kind, wrong.clause) == ("misordered", "CAST-5")
    assert "session 2" in wrong.says
    assert "session 3" in wrong.says


def test_cast_5_three_who_agree_in_pairs_and_not_together() -> None:
    story = Story(6)
    for name in ("0.0", "1.0", "2.0"):
        story.say(name)
    story.hear(3, "0.0", "1.0")
    story.hear(4, "1.0", "2.0")
    story.hear(5, "2.0", "0.0")
    assert story.judged().counts["misordered"] == 1


# --- PREFIX, TEXT --------------------------------------------------------------------------------


@pytest.mark.parametrize("prefix", [b"<127.0.0.9>", b"", b"<127.0.0.2> "])
def test_prefix_1_prefix_2_another_prefix(prefix: bytes) -> None:
    story = Story(2)
    story.say("0.0")
    story.line(1, prefix + b"0.0:hi")
    assert story.found() == {"misprefixed": 1}


def test_a_profile_says_what_a_prefix_is_and_what_a_server_says_by_itself() -> None:
    story = Story(2)
    story.say("0.0")
    story.line(1, b"<announce> 127.0.0.2 is connected as <user0>.")
    story.line(1, b"<user0> 0.0:hi")
    assert story.found(profile=load("ncat-chat")) == {}
    assert story.found(profile=load("chatroom")) != {}


def test_text_1_a_text_that_was_changed() -> None:
    story = Story(2)
    story.say("0.0", b"Hello")
    story.line(1, b"<127.0.0.2>0.0:hello")
    (torn,) = story.judged().violations
    assert torn.kind == "torn"
    assert torn.says.endswith("as “0.0:hello”, but it was sent as “0.0:Hello”")


@pytest.mark.parametrize("text", [b"ab", b"a\xe8\xaab", b"a?b", b"a"])
def test_text_2_what_is_no_utf_8_is_not_swallowed(text: bytes) -> None:
    story = Story(2)
    story.say("0.0", b"a\xffb")
    story.line(1, b"<127.0.0.2>0.0:" + text)
    assert story.found() == ({} if text == b"a\xe8\xaab" else {"torn": 1})


def test_line_3_messages_that_came_in_one_line_are_torn() -> None:
    story = Story(2)
    story.say("0.0")
    story.say("0.1")
    story.line(1, b"<127.0.0.2>0.0:hi<127.0.0.2>0.1:hi")
    assert story.found() == {"torn": 1, "lost": 1}


def test_line_3_a_message_without_a_prefix_is_known_by_its_token() -> None:
    story = Story(2)
    story.say("0.0")
    story.say("0.1")
    story.hear(1, "0.0")
    story.line(1, b"0.1:hi")
    (wrong,) = story.judged().violations
    assert (wrong.kind, wrong.message) == ("misprefixed", "0.1")


def test_text_2_text_3_a_text_may_come_as_it_was_or_harmless_in_other_words() -> None:
    story = Story(2)
    story.say("0.0", b"\x07a\xe2\x82")
    for text in (b"\x07a\xe2\x82", "␇a\ufffd".encode(), "␇a\ufffd\ufffd".encode()):
        told = Story(2)
        told.say("0.0", b"\x07a\xe2\x82")
        told.line(1, b"<127.0.0.2>0.0:" + text)
        assert told.found() == {}


def test_a_line_that_nobody_said() -> None:
    story = Story(2)
    story.line(1, b"<127.0.0.2>what\x1b[31m")
    (torn,) = story.judged().violations
    assert torn.kind == "torn"
    assert torn.says.endswith("“<127.0.0.2>what�[31m”")


PAUSED, QUICK = 0.25, 0.05


@pytest.mark.parametrize(
    ("gap", "pieces", "found"),
    [
        (PAUSED, ["0.0:one 語", " two"], {"undecided": 1}),
        (PAUSED, ["0.0:", "one", " 語", " two"], {"undecided": 1}),
        (PAUSED, ["0", ".0:one 語 two"], {"undecided": 1}),
        (PAUSED, ["0.", "0:one ", "語 two"], {"undecided": 1}),
        (PAUSED, ["0.0:one"], {"torn": 1}),
        (PAUSED, ["0.0:one", " two"], {"torn": 2}),
        (PAUSED, ["0.0:one \ufffd", "\ufffd two"], {"torn": 2}),  # LINE-5: a character waits
        (PAUSED, ["0.0:one", "0.0:one 語 two"], {"duplicated": 1, "torn": 1}),
        (QUICK, ["0.0:one", " 語 two"], {"torn": 2}),
        (QUICK, ["0", ".0:one 語 two"], {"torn": 2, "lost": 1}),
    ],
)
def test_line_5_only_a_message_that_had_a_pause_in_it_may_come_in_pieces_that_add_up(
    gap: float, pieces: list[str], found: dict[str, int]
) -> None:
    story = Story(2)
    story.say("0.0", "one 語 two".encode(), gap=gap)
    for piece in pieces:
        story.line(1, f"<127.0.0.2>{piece}".encode())
    assert story.found() == found


def test_line_5_bytes_that_are_no_utf_8_may_be_cut_too() -> None:
    story = Story(2)
    story.say("0.0", b"a\xff\xfe\xc0b", gap=PAUSED)
    story.line(1, "<127.0.0.2>0.0:a\ufffd".encode())
    story.line(1, "<127.0.0.2>\ufffd\ufffdb".encode())
    assert story.found() == {"undecided": 1}


@pytest.mark.parametrize("comes", ["before", "meanwhile", "behind"])
def test_line_5_who_came_after_the_beginning_may_hear_the_rest_only(comes: str) -> None:
    story = Story(2)
    if comes == "before":
        story.join(2)
    story.say("0.0", b"one two", sent=False)
    story.line(1, b"<127.0.0.2>0.0:one")
    if comes == "meanwhile":
        story.join(2)
    story.add(who=0, sent="0.0", gap=PAUSED)
    if comes == "behind":
        story.join(2)
    story.line(1, b"<127.0.0.2> two")
    story.line(2, b"<127.0.0.2> two")
    found = story.found()
    assert found.pop("undecided") >= 1
    assert found == ({"torn": 1, "lost": 1} if comes == "before" else {})


def test_cast_4_a_rest_does_not_come_behind_a_later_message() -> None:
    story = Story(2)
    story.say("0.0", b"one two", gap=PAUSED)
    story.line(1, b"<127.0.0.2>0.0:one")
    story.line(1, b"<127.0.0.2> two")
    story.join(2)
    story.say("0.1")
    story.hear(1, "0.1")
    story.hear(2, "0.1")
    story.line(2, b"<127.0.0.2> two")
    assert story.judged().counts == {"torn": 1}


def test_line_5_by_a_bad_network_a_message_may_come_in_pieces() -> None:
    story = Story(1)
    story.join(1, "drip")
    story.say("1.0", b"drop by drop")
    story.line(0, b"<127.0.0.3>1.0:drop")
    story.line(0, b"<127.0.0.3> by drop")
    assert story.found() == {"undecided": 1}


def test_cast_3_a_rest_that_who_heard_a_later_message_did_not_hear_is_lost() -> None:
    story = Story(2)
    story.join(2)
    story.say("0.0", b"one two", gap=PAUSED)
    story.say("0.1")
    story.hear(1, "0.0", "0.1")
    story.line(2, b"<127.0.0.2>0.0:one")
    story.what(2, "leaves", how="close")
    assert story.found() == {"undecided": 2}
    story.events.pop()
    story.hear(2, "0.1")
    story.what(2, "leaves", how="close")
    assert story.found() == {"torn": 1}


def test_leave_1_who_is_reset_in_the_middle_may_leave_a_beginning() -> None:
    for end in (b"0.0:hel", b"0.", "0.0:hello \ufffd".encode()):
        story = Story(2)
        story.say("0.0", "hello 語".encode())
        story.what(0, "leaves", how="reset")
        story.line(1, b"<127.0.0.2>" + end)
        assert story.found() == {"undecided": 1}


def test_leave_2_who_goes_in_the_middle_of_a_line_has_said_its_beginning() -> None:
    story = Story(2)
    story.say("0.0", b"all of it", sent=False)
    story.what(0, "leaves", how="close")
    story.line(1, b"<127.0.0.2>0.0:all")
    assert story.found() == {"undecided": 1}


@pytest.mark.parametrize(
    ("rest", "found"),
    [
        ("<127.0.", {}),
        ("<127.0.0.2>", {}),
        ("<127.0.0.2>0", {}),
        ("<127.0.0.2>0.0:h", {}),
        ("what", {"torn": 1}),
        ("<127.0.0.9", {"torn": 1}),
        ("<127.0.0.2>what", {"torn": 1}),
        ("<127.0.0.2>0.0:what", {"torn": 1}),
    ],
)
def test_what_had_come_when_one_was_cut_off_begins_what_is_due(
    rest: str, found: dict[str, int]
) -> None:
    story = Story(1)
    story.join(1, "reset")
    story.say("0.0")
    story.fault("reset", who=1)
    story.what(1, "ended", how="reset", rest=rest)
    assert {kind: n for kind, n in story.found().items() if kind != "undecided"} == found


def test_who_is_cut_off_before_it_was_welcomed_has_the_beginning_of_the_welcome() -> None:
    story = Story(1)
    story.connect(1, "reset")
    story.fault("reset", who=1)
    story.what(1, "ended", how="reset", rest="Welcome to so")
    assert story.found() == {}


# --- connections ---------------------------------------------------------------------------------


def test_load_4_who_was_disconnected_had_not_asked_for_it() -> None:
    story = Story(2)
    story.what(0, "ended", how="closed")
    story.fault("kill-worker")
    story.what(1, "ended", how="reset")
    other, killed = story.judged().violations
    assert (other.kind, other.clause, other.says) == (
        "disconnected",
        "LEAVE-1",
        "session 0 (127.0.0.2) was disconnected",
    )
    assert (killed.kind, killed.clause) == ("disconnected", "LOAD-4")
    assert killed.says.endswith("was disconnected, 0.001 s after a fault of the target")


def test_where_it_broke_off_who_was_disconnected_long_before_counts() -> None:
    story = Story(2)
    story.what(1, "ended", how="reset")
    assert story.found("the target ended") == {}
    story.t += 10
    story.add(who=0, hears=[])
    assert story.found("the target ended") == {"disconnected": 1}


@pytest.mark.parametrize("link", ["slow", "stall", "cut-off", "reset", "half-close"])
def test_load_2_who_is_on_such_a_network_may_be_put_out(link: str) -> None:
    story = Story(1)
    story.join(1, link)
    story.fault(link, who=1)
    story.what(1, "ended", how="reset")
    assert story.found() == {}


def test_a_restart_ends_all_connections_and_lets_nobody_in() -> None:
    story = Story(2)
    story.fault("restart")
    story.what(0, "ended", how="closed")
    story.what(1, "ended", how="closed")
    story.what(2, "connects", population="p", address="127.0.0.4", link=None)
    story.what(2, "refused", why="Connection refused")
    story.fault("restart", "ends")
    assert story.found() == {}
    story.what(3, "connects", population="p", address="127.0.0.5", link=None)
    story.what(3, "refused", why="Connection refused")
    assert story.found() == {"refused": 1}


@pytest.mark.parametrize(
    "why", ["the harness itself: Too many open files", "Cannot assign requested address"]
)
def test_join_1_who_could_not_come_through_the_harness_was_not_refused(why: str) -> None:
    story = Story(2)
    story.what(2, "connects", population="p", address="127.0.0.4", link=None)
    story.what(2, "refused", why=why)
    judgement = story.judged()
    assert judgement.counts == {}
    assert judgement.cannot_judge.endswith(f"could not connect: {why}")


def test_welcome_1_who_heard_something_else_first() -> None:
    story = Story(1)
    story.connect(1)
    story.what(1, "unwelcomed", rest="<127.0.0.2>hi")
    story.line(1, b"Welcome to socket practice")
    assert story.found(profile=load("chatroom")) == {"unwelcomed": 1}


def test_welcome_1_who_is_let_in_and_never_greeted() -> None:
    story = Story(1)
    story.connect(1)
    story.t += 10
    story.add(who=0, hears=[])
    assert story.found() == {"unwelcomed": 1}


def test_leave_4_who_has_closed_its_side_sees_the_other_closed() -> None:
    story = Story(2)
    story.what(1, "leaves", how="half-close")
    story.t += 10
    story.add(who=0, hears=[])
    assert story.found() == {"uncleaned": 1}
    story.what(1, "ended", how="closed")
    assert story.found() == {}


def test_load_2_who_does_not_read_is_put_out_one_day() -> None:
    story = Story(1)
    story.join(1, "stall")
    story.fault("stall", who=1)
    profile = load("chatroom")
    for number in range((profile.lag_limit + KERNELS) // 1_000_000 + 2):
        story.say(f"0.{number}", b"x" * 1_000_000)
    assert story.judged(profile=profile).counts == {"unbounded": 1}
    story.what(1, "ended", how="reset")
    assert story.judged(profile=profile).counts == {}


def test_load_2_who_reads_again_owes_nothing() -> None:
    story = Story(1)
    story.join(1, "stall")
    story.fault("stall", who=1)
    profile = load("chatroom")
    for number in range((profile.lag_limit + KERNELS) // 1_000_000 + 2):
        story.say(f"0.{number}", b"x" * 1_000_000)
    story.fault("stall", "ends", who=1)
    assert story.judged(profile=profile).counts == {}


# --- how it ended --------------------------------------------------------------------------------


@pytest.mark.parametrize("end", ["", "the target ended", "interrupted"])
def test_where_it_was_not_complete_what_is_missing_is_undecided(end: str) -> None:
    story = Story(3)
    story.say("0.0")
    story.say("0.1")
    story.hear(1, "0.1")
    story.what(2, "ended", how="reset")
    assert story.found(end) == {"lost": 1, "undecided": 2}


# --- exactness, and speed of a kind --------------------------------------------------------------

PEOPLE = 11


def a_crowd(messages: int, change: Callable[[int, list[str]], list[str]]) -> Story:
    """Clients that each hear the room's sequence, less their own messages, after `change`."""
    story = Story(PEOPLE)
    names = [f"{at % PEOPLE}.{at // PEOPLE}" for at in range(messages)]
    for name in names:
        story.say(name)
    for who in range(PEOPLE):
        heard = change(who, [name for name in names if not name.startswith(f"{who}.")])
        for first in range(0, len(heard), 7):
            story.hear(who, *heard[first : first + 7])
    return story


def test_cast_1_one_lost_of_ten_thousand_is_named_and_nothing_else() -> None:
    lost: set[tuple[int, str]] = set()

    def change(who: int, heard: list[str]) -> list[str]:
        lost.update((who, name) for name in heard[5000::10_000])
        return [name for at, name in enumerate(heard) if at % 10_000 != 5000]

    judgement = a_crowd(11_000, change).judged()
    assert judgement.deliveries == 11_000 * (PEOPLE - 1) - len(lost)
    assert {(violation.who, violation.message) for violation in judgement.violations} == lost
    assert judgement.counts == {"lost": PEOPLE}


def test_all_are_counted_and_the_first_are_told() -> None:
    judgement = a_crowd(200, lambda _, heard: heard[100:]).judged()
    assert judgement.counts["lost"] == PEOPLE * 100
    assert len(judgement.violations) == SHOWN


@given(integers(0, 10_000))
def test_whatever_is_changed_in_one_s_hearing_is_found(seed: int) -> None:
    chance = random.Random(seed)
    victim, how = chance.randrange(PEOPLE), chance.choice(("lost", "duplicated", "misordered"))

    def change(who: int, heard: list[str]) -> list[str]:
        if who != victim:
            return heard
        at = chance.randrange(len(heard) - 1)
        if how == "lost":
            del heard[at]
        elif how == "duplicated":
            heard.insert(chance.randrange(at, len(heard)), heard[at])
        else:
            heard[at], heard[at + 1] = heard[at + 1], heard[at]
        return heard

    judgement = a_crowd(60, change).judged()
    assert set(judgement.counts) == {how}
    assert {violation.who for violation in judgement.violations} == {victim}


def test_what_is_harmless_is_what_the_tests_think() -> None:
    assert harmless(b"\x07") == "␇".encode()


# --- whatever a correct room does ----------------------------------------------------------------


class Guest:
    """A connection to the model of a room. cursor: entries of the room's log sent to it."""

    def __init__(self, who: int) -> None:
        self.who = who
        self.cursor: int | None = None
        self.welcomed = False
        self.here = True
        self.said = 0
        self.inbox = ""
        """Bytes that it has sent and the room has not read yet."""
        self.begun = ""
        """Beginning of a line that the room has read."""
        self.rest = ""
        """Rest of a message that it has begun."""
        self.heard: list[object] = []


class Room:
    """A correct room with clients that act at random; their story is recorded."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.story = Story()
        self.log: list[tuple[int, str, str]] = []
        """Sender, line, and name of the message that the line is as a whole, if any."""
        self.guests: list[Guest] = []
        for _ in range(120):
            self.act(self.chance.choice([*self.ACTS, "say"]))
        here = [guest for guest in self.guests if guest.here]
        for act in ("admit", "welcome", "go on", "read", "hear"):
            for guest in here:
                while act == "hear" and guest.cursor != len(self.log):
                    self.hear(guest)
                self.ACTS[act](self, guest)

    def act(self, act: str) -> None:
        here = [guest for guest in self.guests if guest.here]
        if act == "come" and len(here) < 6:
            self.guests.append(Guest(len(self.guests)))
            self.story.connect(len(self.guests) - 1)
        elif act != "come" and here:
            self.ACTS[act](self, self.chance.choice(here))

    def admit(self, guest: Guest) -> None:
        """Make it a member, which does not know it yet."""
        if guest.cursor is None:
            guest.cursor = len(self.log)

    def welcome(self, guest: Guest) -> None:
        if guest.cursor is not None and not guest.welcomed:
            guest.welcomed = True
            self.story.what(guest.who, "welcomed")

    def say(self, guest: Guest) -> None:
        self.go_on(guest)
        name = f"{guest.who}.{guest.said}"
        guest.said += 1
        self.story.say(name, self.chance.choice(("hi", "語語語", "")).encode(), sent=False)
        line = self.story.texts[name].decode() + "\n"
        cut = self.chance.randint(1, len(line))
        guest.inbox, guest.rest = guest.inbox + line[:cut], line[cut:]
        if not guest.rest:
            self.story.add(who=guest.who, sent=name, gap=0.0)

    def go_on(self, guest: Guest) -> None:
        if guest.rest:
            guest.inbox, guest.rest = guest.inbox + guest.rest, ""
            name = f"{guest.who}.{guest.said - 1}"
            begun = next(event["t"] for event in self.story.events if event.get("says") == name)
            self.story.add(who=guest.who, sent=name, gap=self.story.t - begun)

    def read(self, guest: Guest) -> None:
        *lines, guest.begun = (guest.begun + guest.inbox).split("\n")
        guest.inbox = ""
        for line in lines:
            self.tell(guest, line)

    def tell(self, guest: Guest, line: str) -> None:
        name = line.partition(":")[0]
        own = name.partition(".")[0] == str(guest.who)  # a piece may look like another's
        whole = own and line.encode() == self.story.texts.get(name)
        self.log.append((guest.who, line, name if whole else ""))

    def flush(self, guest: Guest) -> None:
        """Deliver its unfinished text, as after a silence."""
        if guest.begun and not guest.inbox:
            self.story.t += PAUSED
            self.tell(guest, guest.begun)
            guest.begun = ""

    def hear(self, guest: Guest) -> None:
        if guest.cursor is None or not guest.welcomed:
            return
        some = self.log[guest.cursor : guest.cursor + self.chance.randrange(5)]
        guest.cursor += len(some)
        for who, line, name in some:
            if who != guest.who:
                address = self.story.addresses[who]
                guest.heard.append(name or {"line": f"<{address}>{line}"})
        self.story.add(who=guest.who, hears=guest.heard)
        guest.heard = []

    def leave(self, guest: Guest) -> None:
        how = self.chance.choice(("close", "reset", "half-close"))
        self.story.what(guest.who, "leaves", how=how)
        if how == "reset":  # unread input is lost
            guest.inbox = guest.inbox[: self.chance.randint(0, len(guest.inbox))]
        self.read(guest)
        if guest.begun:
            self.tell(guest, guest.begun)
        if how == "half-close":
            self.story.what(guest.who, "ended", how="closed")
        guest.here = False

    ACTS: ClassVar[dict[str, Callable[[Room, Guest], None]]] = {
        "come": lambda room, guest: None,
        "admit": admit,
        "welcome": welcome,
        "say": say,
        "go on": go_on,
        "read": read,
        "flush": flush,
        "hear": hear,
        "leave": leave,
    }

    def deliveries(self) -> list[tuple[list[object], int]]:
        """Return whole messages heard by clients that were members before, and stayed: a list of
        messages heard, and the place in it."""
        stay = {guest.who: self.welcome_of(guest.who) for guest in self.guests if guest.here}
        said = {event["says"]: event["t"] for event in self.story.events if "says" in event}
        return [
            (event["hears"], at)
            for event in self.story.events
            if event.get("who") in stay and "hears" in event
            for at, name in enumerate(event["hears"])
            if isinstance(name, str) and said[name] > stay[event["who"]]
        ]

    def welcome_of(self, who: int) -> float:
        events = self.story.events
        (t,) = (
            event["t"]
            for event in events
            if event.get("what") == "welcomed" and event["who"] == who
        )
        return float(t)


@given(integers(0, 1 << 32))
def test_whatever_a_room_does_that_is_right_nothing_is_found(seed: int) -> None:
    assert Room(seed).story.judged().violations == []


@given(integers(0, 1 << 32), sampled_from(["lost", "duplicated", "echoed"]))
def test_whatever_is_changed_in_a_room_that_is_right_is_found_or_undecided(
    seed: int, how: str
) -> None:
    room = Room(seed)
    undecided = room.story.judged().undecided
    chances = room.deliveries()
    assume(chances)
    heard, at = room.chance.choice(chances)
    name = heard[at]
    match how:
        case "lost":
            del heard[at]
        case "duplicated":
            heard.append(name)
        case "echoed":
            assert isinstance(name, str)
            assume(room.guests[int(name.partition(".")[0])].here)
            room.story.hear(int(name.partition(".")[0]), name)
    judgement = room.story.judged()
    assert judgement.counts[how] == 1 or judgement.undecided > undecided


@given(integers(0, 1 << 32))
def test_whatever_was_torn_or_wrongly_prefixed_is_found(seed: int) -> None:
    room = Room(seed)
    chances = room.deliveries()
    assume(chances)
    heard, at = room.chance.choice(chances)
    name = heard[at]
    assert isinstance(name, str)
    text = room.story.texts[name].decode()
    heard[at] = {"line": f"<127.0.0.1>{text}"}
    assert room.story.judged().counts == {"misprefixed": 1}
    heard[at] = {"line": f"<{room.story.addresses[int(name.partition('.')[0])]}>{text}!"}
    assert room.story.judged().counts == {"torn": 1}


@given(integers(0, 1 << 32))
def test_where_a_room_broke_off_what_it_owes_is_not_held_against_it(seed: int) -> None:
    """Any beginning of a correct room's history is a correct history."""
    story = Room(seed).story
    del story.events[random.Random(seed).randrange(len(story.events) + 1) :]
    assert story.judged("").violations == []


def test_bytes_before_a_message_that_are_no_text_are_told_of_as_all_that_is_wrong() -> None:
    """This holds where a message in pieces has begun, too."""
    story = Story(2)
    story.say("0.0", b"abcdef", gap=0.2)
    story.say("0.1", b"hello")
    story.line(1, b"<127.0.0.2>0.0:abc")
    story.line(1, b"<127.0.0.2>\xff0.1:hello")
    assert story.judged().counts.keys() >= {"misprefixed"}
