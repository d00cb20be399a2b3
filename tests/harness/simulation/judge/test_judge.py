"""The judge of a history: it reports each violation, and nothing that the protocol permits."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import ClassVar

import pytest
from hypothesis import assume, given
from hypothesis.strategies import integers, sampled_from

from harness.profile import load, parse
from harness.simulation.judge.connections import KERNELS
from harness.simulation.judge.judgement import SHOWN
from harness.simulation.scenario.vocabulary import harmless, numbers_of
from tests.harness.simulation.story import Story


def test_a_correct_history_has_no_violations() -> None:
    story = Story(3)
    for name in ("msg0.0", "msg1.0", "msg0.1", "msg2.0"):
        story.say(name)
    story.all_hear("msg0.0", "msg1.0", "msg0.1", "msg2.0")
    judgement = story.judged()
    assert judgement.violations == []
    assert (judgement.messages, judgement.deliveries, judgement.undecided) == (4, 8, 0)


# --- CAST-1 --------------------------------------------------------------------------------------


def test_cast_1_a_message_that_a_member_never_hears_is_lost() -> None:
    story = Story(3)
    story.say("msg0.0")
    story.say("msg0.1")
    story.hear(1, "msg0.0", "msg0.1")
    story.hear(2, "msg0.1")
    (lost,) = story.judged().violations
    assert (lost.kind, lost.clause, lost.who, lost.message) == ("lost", "CAST-1", 2, "msg0.0")
    assert lost.says == (
        "msg0.0 of Ann (p, 127.0.0.2) never reached Cleo (p, 127.0.0.4), which received msg0.1"
    )


def test_cast_1_a_message_that_nobody_hears_is_lost() -> None:
    story = Story(3)
    story.say("msg0.0")
    assert story.found() == {"lost": 2}


def test_cast_1_a_leaver_may_miss_the_last_messages() -> None:
    story = Story(3)
    story.say("msg0.0")
    story.say("msg0.1")
    story.hear(1, "msg0.0", "msg0.1")
    story.hear(2, "msg0.0")
    story.what(2, "leaves", how="close")
    assert story.found() == {"undecided": 1}


def test_cast_4_a_gap_in_one_sender_s_messages_to_a_leaver_is_a_loss() -> None:
    story = Story(3)
    story.say("msg0.0")
    story.say("msg0.1")
    story.hear(2, "msg0.1")
    story.what(2, "leaves", how="close")
    story.hear(1, "msg0.0", "msg0.1")
    assert story.found() == {"lost": 1}


def test_cast_5_a_gap_in_the_common_order_to_a_leaver_is_a_loss() -> None:
    story = Story(4)
    story.say("msg0.0")
    story.say("msg1.0")
    story.hear(3, "msg1.0")
    story.what(3, "leaves", how="reset")
    story.hear(2, "msg0.0", "msg1.0")
    story.hear(0, "msg1.0")
    story.hear(1, "msg0.0")
    assert story.found() == {"lost": 1}


def test_a_message_after_a_leave_is_not_due_to_the_leaver() -> None:
    story = Story(2)
    story.what(1, "leaves", how="close")
    story.say("msg0.0")
    assert story.found() == {}


def test_welcome_3_a_message_during_a_join_may_be_missed() -> None:
    for hears in (True, False):
        story = Story(2)
        story.connect(2)
        story.say("msg0.0")
        story.what(2, "welcomed")
        story.hear(1, "msg0.0")
        if hears:
            story.hear(2, "msg0.0")
        assert story.found() == ({} if hears else {"undecided": 1})


def test_welcome_3_a_message_before_a_join_is_not_due() -> None:
    story = Story(2)
    story.say("msg0.0")
    story.hear(1, "msg0.0")
    story.join(2)
    assert story.found() == {}


def test_welcome_3_a_message_after_the_welcome_is_due() -> None:
    story = Story(2)
    story.join(2)
    story.say("msg0.0")
    story.hear(1, "msg0.0")
    assert story.found() == {"lost": 1}


@pytest.mark.parametrize("how", ["reset", "unsent", "cut off"])
def test_a_message_of_a_sender_that_was_cut_off_is_undecided(how: str) -> None:
    story = Story(2)
    story.join(2, "cut-off" if how == "cut off" else None)
    story.say("msg2.0", sent=how != "unsent")
    if how == "cut off":
        story.fault("cut-off", who=2)
    else:
        story.what(2, "leaves", how="reset")
    assert story.found() == {"undecided": 2}
    story.hear(0, "msg2.0")
    assert story.found() == {"lost": 1}, "a message that one member has heard is due to all members"


def test_leave_2_a_message_sent_before_a_close_is_due() -> None:
    story = Story(3)
    story.say("msg2.0")
    story.what(2, "leaves", how="close")
    assert story.found() == {"lost": 2}


def test_leave_2_a_message_sent_before_a_half_close_is_due() -> None:
    story = Story(3)
    story.say("msg2.0")
    story.what(2, "leaves", how="half-close")
    story.what(2, "ended", how="closed")
    assert story.found() == {"lost": 2}


def test_a_message_just_before_a_restart_is_undecided() -> None:
    story = Story(3)
    story.say("msg2.0")
    story.what(2, "leaves", how="half-close")
    story.fault("restart")
    for who in range(3):
        story.what(who, "ended", how="closed")
    story.fault("restart", "ends")
    assert story.found() == {"undecided": 2}


def test_messages_over_a_faulty_link_may_still_be_in_transit() -> None:
    story = Story(2)
    story.join(2, "drip")
    story.say("msg2.0")
    story.say("msg2.1")
    assert story.found() == {"undecided": 4}
    story.hear(0, "msg2.1")
    assert story.found() == {"lost": 3}
    story.hear(1, "msg2.0")
    assert story.found() == {"lost": 2}


def test_welcome_3_messages_after_one_heard_during_a_join_are_due() -> None:
    story = Story(3)
    story.connect(3)
    for name in ("msg0.0", "msg0.1", "msg1.0", "msg0.2"):
        story.say(name)
    story.what(3, "welcomed")
    for who in (1, 2):
        names = ("msg0.0", "msg0.1", "msg1.0", "msg0.2")
        story.hear(who, *(name for name in names if numbers_of(name)[0] != who))
    story.hear(0, "msg1.0")
    story.hear(3, "msg0.1", "msg0.2")
    (lost,) = story.judged().violations
    assert (lost.who, lost.message) == (3, "msg1.0")
    assert "received msg0.2; Cleo (p, 127.0.0.4) received msg1.0 before msg0.2" in lost.says
    assert story.judged().undecided == 1, "msg0.0 may have been delivered before the join"


def test_welcome_3_a_message_in_transit_during_a_join_may_be_missed() -> None:
    story = Story(2)
    story.say("msg0.0", sent=False)
    story.connect(2)
    story.add(who=0, sent="msg0.0", gap=0.0)
    story.what(2, "welcomed")
    story.hear(1, "msg0.0")
    assert story.found() == {"undecided": 1}


def test_a_contradictory_order_proves_no_loss_of_a_leaver() -> None:
    story = Story(5)
    story.say("msg0.0")
    story.say("msg1.0")
    story.hear(2, "msg0.0", "msg1.0")
    story.hear(3, "msg1.0", "msg0.0")
    story.hear(4, "msg1.0")
    story.what(4, "leaves", how="close")
    story.hear(0, "msg1.0")
    story.hear(1, "msg0.0")
    assert story.found() == {"misordered": 1, "undecided": 1}


def test_cast_1_a_message_heard_twice_is_duplicated() -> None:
    story = Story(2)
    story.say("msg0.0")
    story.hear(1, "msg0.0")
    story.hear(1, "msg0.0")
    (doubled,) = story.judged().violations
    assert (doubled.kind, doubled.who, doubled.message) == ("duplicated", 1, "msg0.0")


# --- CAST-2, CAST-4, CAST-5 ----------------------------------------------------------------------


def test_cast_2_a_message_heard_by_its_sender_is_echoed() -> None:
    story = Story(2)
    story.say("msg0.0")
    story.hear(1, "msg0.0")
    story.hear(0, "msg0.0")
    assert story.found() == {"echoed": 1}


def test_cast_4_one_sender_s_messages_out_of_order_are_misordered() -> None:
    story = Story(3)
    story.say("msg0.0")
    story.say("msg0.1")
    story.hear(1, "msg0.0", "msg0.1")
    story.hear(2, "msg0.1", "msg0.0")
    (wrong,) = story.judged().violations
    assert (wrong.kind, wrong.clause, wrong.who, wrong.message) == (
        "misordered",
        "CAST-4",
        2,
        "msg0.0",
    )


def test_cast_5_two_members_with_different_orders_are_misordered() -> None:
    story = Story(4)
    story.say("msg0.0")
    story.say("msg1.0")
    story.hear(2, "msg0.0", "msg1.0")
    story.hear(3, "msg1.0", "msg0.0")
    story.hear(0, "msg1.0")
    story.hear(1, "msg0.0")
    (wrong,) = story.judged().violations
    assert (wrong.kind, wrong.clause) == ("misordered", "CAST-5")
    assert wrong.says == (
        "Dan (p, 127.0.0.5) received msg1.0 of Bob (p, 127.0.0.3) before msg0.0, but "
        "Cleo (p, 127.0.0.4) received it after msg0.0"
    )


def test_cast_5_a_cyclic_order_of_three_members_is_misordered() -> None:
    story = Story(6)
    for name in ("msg0.0", "msg1.0", "msg2.0"):
        story.say(name)
    story.hear(3, "msg0.0", "msg1.0")
    story.hear(4, "msg1.0", "msg2.0")
    story.hear(5, "msg2.0", "msg0.0")
    assert story.judged().counts["misordered"] == 1


# --- PREFIX, TEXT --------------------------------------------------------------------------------


@pytest.mark.parametrize("prefix", [b"<127.0.0.9>", b"", b"<127.0.0.2> "])
def test_prefix_1_prefix_2_a_wrong_prefix_is_misprefixed(prefix: bytes) -> None:
    story = Story(2)
    story.say("msg0.0")
    story.line(1, prefix + b"msg0.0:hi")
    assert story.found() == {"misprefixed": 1}


def test_a_true_prefix_behind_an_unfinished_line_is_not_misprefixed() -> None:
    story = Story(2)
    story.say("msg0.0")
    story.line(1, b"<127.0.0.9>ms<127.0.0.2>msg0.0:hi")
    (torn,) = story.judged().violations
    assert torn.kind == "torn"
    assert torn.says == (
        "Bob (p, 127.0.0.3) received msg0.0 of Ann (p, 127.0.0.2) behind “<127.0.0.9>ms”"
    )


def test_a_profile_defines_prefixes_and_notices() -> None:
    story = Story(2)
    story.say("msg0.0")
    story.line(1, b"<announce> 127.0.0.2 is connected as <user0>.")
    story.line(1, b"<user0> msg0.0:hi")
    assert story.found(profile=load("ncat-chat")) == {}
    assert story.found(profile=load("chatroom")) != {}


def test_text_1_a_changed_text_is_torn() -> None:
    story = Story(2)
    story.say("msg0.0", b"Hello")
    story.line(1, b"<127.0.0.2>msg0.0:hello")
    (torn,) = story.judged().violations
    assert torn.kind == "torn"
    assert torn.says.endswith("as “msg0.0:hello”, but it was sent as “msg0.0:Hello”")


@pytest.mark.parametrize("text", [b"ab", b"a\xe8\xaab", b"a?b", b"a"])
def test_text_2_invalid_utf_8_must_not_be_dropped(text: bytes) -> None:
    story = Story(2)
    story.say("msg0.0", b"a\xffb")
    story.line(1, b"<127.0.0.2>msg0.0:" + text)
    assert story.found() == ({} if text == b"a\xe8\xaab" else {"torn": 1})


def test_line_3_two_messages_in_one_line_are_torn() -> None:
    story = Story(2)
    story.say("msg0.0")
    story.say("msg0.1")
    story.line(1, b"<127.0.0.2>msg0.0:hi<127.0.0.2>msg0.1:hi")
    first, second = story.judged().violations
    assert first.says.endswith("it was sent as “msg0.0:hi”")
    assert (
        second.says
        == "Bob (p, 127.0.0.3) received msg0.1 of Ann (p, 127.0.0.2) in one line with msg0.0"
    )
    assert story.found() == {"torn": 2}


def test_line_3_a_message_without_a_prefix_is_recognised_by_its_token() -> None:
    story = Story(2)
    story.say("msg0.0")
    story.say("msg0.1")
    story.hear(1, "msg0.0")
    story.line(1, b"msg0.1:hi")
    (wrong,) = story.judged().violations
    assert (wrong.kind, wrong.clause, wrong.message) == ("misprefixed", "LINE-3", "msg0.1")
    assert wrong.cause == "the second line of a segment arrived without a prefix"


def test_text_2_text_3_a_text_may_arrive_unchanged_or_sanitised() -> None:
    story = Story(2)
    story.say("msg0.0", b"\x07a\xe2\x82")
    for text in (b"\x07a\xe2\x82", "␇a\ufffd".encode(), "␇a\ufffd\ufffd".encode()):
        told = Story(2)
        told.say("msg0.0", b"\x07a\xe2\x82")
        told.line(1, b"<127.0.0.2>msg0.0:" + text)
        assert told.found() == {}


def test_a_line_that_nobody_said_is_torn() -> None:
    story = Story(2)
    story.line(1, b"<127.0.0.2>what\x1b[31m")
    (torn,) = story.judged().violations
    assert torn.kind == "torn"
    assert torn.says.endswith("“<127.0.0.2>what�[31m”")


#: Time (s) between the pieces of a message: more, or less, than the silence of LINE-5.
PAUSED, QUICK = 0.25, 0.05


@pytest.mark.parametrize(
    ("gap", "pieces", "found"),
    [
        (PAUSED, ["msg0.0:one 語", " two"], {"undecided": 1}),
        (PAUSED, ["msg0.0:", "one", " 語", " two"], {"undecided": 1}),
        (PAUSED, ["msg0", ".0:one 語 two"], {"undecided": 1}),
        (PAUSED, ["ms", "g0.0:one ", "語 two"], {"undecided": 1}),
        (PAUSED, ["msg0.0:one"], {"torn": 1}),
        (PAUSED, ["msg0.0:one", " two"], {"torn": 2}),
        # LINE-5: the first part of a character waits for the rest.
        (PAUSED, ["msg0.0:one \ufffd", "\ufffd two"], {"torn": 2}),
        (PAUSED, ["msg0.0:one", "msg0.0:one 語 two"], {"duplicated": 1, "torn": 1}),
        (QUICK, ["msg0.0:one", " 語 two"], {"torn": 2}),
        (QUICK, ["msg0", ".0:one 語 two"], {"torn": 2, "lost": 1}),
    ],
)
def test_line_5_only_a_message_with_a_pause_may_arrive_in_pieces(
    gap: float, pieces: list[str], found: dict[str, int]
) -> None:
    story = Story(2)
    story.say("msg0.0", "one 語 two".encode(), gap=gap)
    for piece in pieces:
        story.line(1, f"<127.0.0.2>{piece}".encode())
    assert story.found() == found


def test_line_5_invalid_utf_8_may_arrive_in_pieces() -> None:
    story = Story(2)
    story.say("msg0.0", b"a\xff\xfe\xc0b", gap=PAUSED)
    story.line(1, "<127.0.0.2>msg0.0:a\ufffd".encode())
    story.line(1, "<127.0.0.2>\ufffd\ufffdb".encode())
    assert story.found() == {"undecided": 1}


@pytest.mark.parametrize("comes", ["before", "meanwhile", "after"])
def test_line_5_a_newcomer_may_hear_only_the_rest_of_a_message(comes: str) -> None:
    story = Story(2)
    if comes == "before":
        story.join(2)
    story.say("msg0.0", b"one two", sent=False)
    story.line(1, b"<127.0.0.2>msg0.0:one")
    if comes == "meanwhile":
        story.join(2)
    story.add(who=0, sent="msg0.0", gap=PAUSED)
    if comes == "after":
        story.join(2)
    story.line(1, b"<127.0.0.2> two")
    story.line(2, b"<127.0.0.2> two")
    found = story.found()
    assert found.pop("undecided") >= 1
    assert found == ({"torn": 1, "lost": 1} if comes == "before" else {})


def test_cast_4_the_rest_of_a_message_after_a_later_message_is_torn() -> None:
    story = Story(2)
    story.say("msg0.0", b"one two", gap=PAUSED)
    story.line(1, b"<127.0.0.2>msg0.0:one")
    story.line(1, b"<127.0.0.2> two")
    story.join(2)
    story.say("msg0.1")
    story.hear(1, "msg0.1")
    story.hear(2, "msg0.1")
    story.line(2, b"<127.0.0.2> two")
    assert story.judged().counts == {"torn": 1}


def test_line_5_a_message_over_a_faulty_link_may_arrive_in_pieces() -> None:
    story = Story(1)
    story.join(1, "drip")
    story.say("msg1.0", b"byte by byte")
    story.line(0, b"<127.0.0.3>msg1.0:byte")
    story.line(0, b"<127.0.0.3> by byte")
    assert story.found() == {"undecided": 1}


def test_cast_3_an_incomplete_message_before_a_later_message_is_torn() -> None:
    story = Story(2)
    story.join(2)
    story.say("msg0.0", b"one two", gap=PAUSED)
    story.say("msg0.1")
    story.hear(1, "msg0.0", "msg0.1")
    story.line(2, b"<127.0.0.2>msg0.0:one")
    story.what(2, "leaves", how="close")
    assert story.found() == {"undecided": 2}
    story.events.pop()
    story.hear(2, "msg0.1")
    story.what(2, "leaves", how="close")
    assert story.found() == {"torn": 1}


def test_leave_1_the_message_of_a_reset_sender_may_arrive_in_part() -> None:
    for end in (b"msg0.0:hel", b"msg0.", "msg0.0:hello \ufffd".encode()):
        story = Story(2)
        story.say("msg0.0", "hello 語".encode())
        story.what(0, "leaves", how="reset")
        story.line(1, b"<127.0.0.2>" + end)
        assert story.found() == {"undecided": 1}


def test_leave_2_the_unfinished_message_of_a_leaver_may_arrive_in_part() -> None:
    story = Story(2)
    story.say("msg0.0", b"all of it", sent=False)
    story.what(0, "leaves", how="close")
    story.line(1, b"<127.0.0.2>msg0.0:all")
    assert story.found() == {"undecided": 1}


@pytest.mark.parametrize(
    ("rest", "found"),
    [
        ("<127.0.", {}),
        ("<127.0.0.2>", {}),
        ("<127.0.0.2>ms", {}),
        ("<127.0.0.2>msg0.0:h", {}),
        ("what", {"torn": 1}),
        ("<127.0.0.9", {"torn": 1}),
        ("<127.0.0.2>what", {"torn": 1}),
        ("<127.0.0.2>msg0.0:what", {"torn": 1}),
    ],
)
def test_bytes_received_before_a_reset_must_begin_a_due_line(
    rest: str, found: dict[str, int]
) -> None:
    story = Story(1)
    story.join(1, "reset")
    story.say("msg0.0")
    story.fault("reset", who=1)
    story.what(1, "ended", how="reset", rest=rest)
    assert {kind: n for kind, n in story.found().items() if kind != "undecided"} == found


def test_a_part_of_the_welcome_before_a_reset_is_no_violation() -> None:
    story = Story(1)
    story.connect(1, "reset")
    story.fault("reset", who=1)
    story.what(1, "ended", how="reset", rest="Welcome to so")
    assert story.found() == {}


# --- connections ---------------------------------------------------------------------------------


def test_load_4_an_unrequested_disconnect_is_a_violation() -> None:
    story = Story(2)
    story.what(0, "ended", how="closed")
    story.fault("kill-worker")
    story.what(1, "ended", how="reset")
    other, killed = story.judged().violations
    assert (other.kind, other.clause, other.says) == (
        "disconnected",
        "LEAVE-1",
        "Ann (p, 127.0.0.2) was disconnected",
    )
    assert (killed.kind, killed.clause) == ("disconnected", "LOAD-4")
    assert killed.says.endswith("was disconnected, 0.001 s after kill-worker")


def test_a_disconnect_just_before_the_target_s_end_does_not_count() -> None:
    story = Story(2)
    story.what(1, "ended", how="reset")
    assert story.found("the target ended") == {}
    story.t += 10
    story.add(who=0, hears=[])
    assert story.found("the target ended") == {"disconnected": 1}


def test_a_refusal_just_before_the_target_s_end_does_not_count() -> None:
    story = Story(1)
    story.what(1, "connects", population="p", address="127.0.0.4", link=None)
    story.what(1, "refused", why="Connection refused")
    assert story.found("the target ended") == {}
    story.t += 10
    story.add(who=0, hears=[])
    assert story.found("the target ended") == {"refused": 1}


@pytest.mark.parametrize("link", ["slow", "stall", "cut-off", "reset", "half-close"])
def test_load_2_a_member_on_a_faulty_link_may_be_disconnected(link: str) -> None:
    story = Story(1)
    story.join(1, link)
    story.fault(link, who=1)
    story.what(1, "ended", how="reset")
    assert story.found() == {}


def test_disconnects_and_refusals_during_a_restart_are_no_violation() -> None:
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
def test_join_1_a_connect_error_of_the_harness_is_not_a_refusal(why: str) -> None:
    story = Story(2)
    story.what(2, "connects", population="p", address="127.0.0.4", link=None)
    story.what(2, "refused", why=why)
    judgement = story.judged()
    assert judgement.counts == {}
    assert judgement.cannot_judge.endswith(f"could not connect: {why}")


def test_welcome_1_a_client_with_other_first_bytes_is_unwelcomed() -> None:
    story = Story(1)
    story.connect(1)
    story.what(1, "unwelcomed", rest="<127.0.0.2>hi")
    story.line(1, b"Welcome to socket practice")
    assert story.found(profile=load("chatroom")) == {"unwelcomed": 1}


def test_welcome_1_a_client_that_gets_no_welcome_is_unwelcomed() -> None:
    story = Story(1)
    story.connect(1)
    story.t += 10
    story.add(who=0, hears=[])
    assert story.found() == {"unwelcomed": 1}


def test_leave_4_an_unanswered_half_close_is_uncleaned() -> None:
    story = Story(2)
    story.what(1, "leaves", how="half-close")
    story.t += 10
    story.add(who=0, hears=[])
    assert story.found() == {"uncleaned": 1}
    story.what(1, "ended", how="closed")
    assert story.found() == {}


def test_load_2_a_member_that_never_reads_must_be_disconnected() -> None:
    story = Story(1)
    story.join(1, "stall")
    story.fault("stall", who=1)
    profile = load("chatroom")
    for number in range((profile.lag_limit + KERNELS) // 1_000_000 + 2):
        story.say(f"msg0.{number}", b"x" * 1_000_000)
    assert story.judged(profile=profile).counts == {"unbounded": 1}
    story.what(1, "ended", how="reset")
    assert story.judged(profile=profile).counts == {}


def test_load_2_a_member_that_reads_again_may_stay() -> None:
    story = Story(1)
    story.join(1, "stall")
    story.fault("stall", who=1)
    profile = load("chatroom")
    for number in range((profile.lag_limit + KERNELS) // 1_000_000 + 2):
        story.say(f"msg0.{number}", b"x" * 1_000_000)
    story.fault("stall", "ends", who=1)
    assert story.judged(profile=profile).counts == {}


# --- dialects ------------------------------------------------------------------------------------

# Parts of profiles: a login; a prefix with the login name; a prefix with a name that the server
# gives; a prefix with address and port.
LOGIN = "\n[[login]]\nsends = '{name}'"
NAMED = "prefix = '(?P<name>[^: ]+): '" + LOGIN
GIVEN = "prefix = '(?P<name>[^: ]+): '"
AT_PORT = r"prefix = '(?P<ip>[\d.]+):(?P<port>\d+) '"


@pytest.mark.parametrize(
    ("dialect", "prefixes", "causes"),
    [
        (NAMED, ["Ann: ", "ANN: "], []),
        (NAMED, ["Bob: "], ["the prefix named another client"]),
        (NAMED, ["Ann> "], ["the prefix was “NAME> ”, which is not the sender’s"]),
        (GIVEN, ["guest4: ", "guest4: "], []),
        (
            GIVEN,
            ["guest4: ", "guest5: "],
            ["the prefix was “guestN: ”, which is not the sender’s"],
        ),
        (AT_PORT, ["127.0.0.2:1000 "], []),
        (AT_PORT, ["127.0.0.2:1001 "], ["the prefix was “IP:N ”, which is not the sender’s"]),
        ("prefix = '[^ ]+ '", ["10:30 ", "10:31 "], []),
        ("prefix = ''", [""], []),
        ("prefix = ''", ["Ann: "], ["the prefix was “NAME: ”, which is not the sender’s"]),
    ],
)
def test_prefix_2_a_prefix_of_a_dialect_names_its_sender(
    dialect: str, prefixes: list[str], causes: list[str]
) -> None:
    story = Story(2)
    for number, prefix in enumerate(prefixes):
        story.say(f"msg0.{number}")
        story.line(1, f"{prefix}msg0.{number}:hi".encode())
    judgement = story.judged(profile=parse(dialect, "mine"))
    assert [cause.cause for cause in judgement.causes.values()] == causes
    assert {*judgement.counts} <= {"misprefixed"}


def test_prefix_2_two_members_with_one_given_name_are_misprefixed() -> None:
    """The server may give a name again after its member has left."""
    for leaves in (True, False):
        story = Story(2)
        story.say("msg0.0")
        story.line(1, b"guest: msg0.0:hi")
        if leaves:
            story.what(0, "leaves", how="close")
        story.join(2)
        story.say("msg2.0")
        story.line(1, b"guest: msg2.0:hi")
        counts = story.judged(profile=parse(GIVEN, "mine")).counts
        assert counts["misprefixed"] == (0 if leaves else 1)


@pytest.mark.parametrize("prefix", [b"<127.0.0.2>", b"You: "])
def test_cast_2_in_a_dialect_with_echo_each_own_message_comes_back_once(prefix: bytes) -> None:
    profile = parse(f"echo = '{prefix.decode()}'", "mine")

    def found(*lines: bytes) -> dict[str, int]:
        story = Story(2)
        story.say("msg0.0")
        story.hear(1, "msg0.0")
        for line in lines:
            if line == b"<127.0.0.2>msg0.0:hi":  # a driver records such a line by its name
                story.hear(0, "msg0.0")
            else:
                story.line(0, line)
        return story.found(profile=profile)

    assert found(prefix + b"msg0.0:hi") == {}
    assert found() == {"echoed": 1}
    assert found(*[prefix + b"msg0.0:hi"] * 2) == {"echoed": 1}
    assert found(b"Ann: msg0.0:hi") == {"misprefixed": 1}


# --- causes --------------------------------------------------------------------------------------


def causes(story: Story) -> list[tuple[str, int, int]]:
    """Return the text, the number of violations and the number of clients of each cause."""
    found = story.judged().causes.values()
    return [(cause.cause, cause.count, len(cause.who)) for cause in found]


def test_lost_messages_differ_in_cause_by_who_received_them() -> None:
    nobody = Story(3)
    for name in ("msg0.0", "msg0.1"):
        nobody.say(name)
    assert causes(nobody) == [("no client received the message", 4, 2)]
    deaf = Story(3)
    for number in range(9):
        deaf.say(f"msg0.{number}")
        deaf.all_hear(f"msg0.{number}", but=2 if number > 4 else None)
    cause = "a client received neither the message nor anything after it"
    assert causes(deaf) == [(cause, 4, 1)]
    deaf.say("msg0.9")
    deaf.all_hear("msg0.9")
    assert causes(deaf) == [("some clients received the message, others did not", 4, 1)]


def test_wrong_prefixes_differ_in_cause_by_their_form() -> None:
    story = Story(3)
    for number, prefix in enumerate((b"<127.0.0.2> ", b"<127.0.0.2> ", b"<127.0.0.3>", b"[7]")):
        story.say(f"msg0.{number}")
        for who in (1, 2):
            story.line(who, b"%smsg0.%d:hi" % (prefix, number))
    assert causes(story) == [
        ("the prefix was “<IP> ” instead of “<IP>”", 4, 2),
        ("the prefix was “<another IP>” instead of “<IP>”", 2, 2),
        ("the prefix was “[N]” instead of “<IP>”", 2, 2),
    ]


def test_disconnections_differ_in_cause_by_what_happened_before() -> None:
    story = Story(6)
    story.what(0, "ended", how="closed")
    story.what(1, "leaves", how="reset")
    story.what(2, "ended", how="closed")
    story.fault("kill-worker")
    story.what(3, "ended", how="closed")
    story.what(4, "ended", how="reset")
    closed = "the server closed or reset the connection"
    assert causes(story) == [
        (closed, 1, 1),
        (f"{closed} just after another client had reset its connection", 1, 1),
        (f"{closed} after kill-worker at 0.0 s", 2, 2),
    ]


# --- runs that ended early -----------------------------------------------------------------------


@pytest.mark.parametrize("end", ["", "the target ended", "interrupted"])
def test_missing_messages_of_an_incomplete_run_are_undecided(end: str) -> None:
    story = Story(3)
    story.say("msg0.0")
    story.say("msg0.1")
    story.hear(1, "msg0.1")
    story.what(2, "ended", how="reset")
    assert story.found(end) == {"lost": 1, "undecided": 2}


@pytest.mark.parametrize("end", ["the target ended", "complete"])
def test_disconnections_after_the_target_s_last_sign_belong_to_its_end(end: str) -> None:
    """A busy harness may notice the end of the target much later."""
    story = Story(3)
    story.say("msg0.0")
    story.hear(1, "msg0.0")
    story.hear(2, "msg0.0")
    story.what(1, "ended", how="reset")
    story.what(2, "ended", how="reset")
    story.t += 60
    story.fault("stop")
    found = story.found(end)
    assert found.get("disconnected", 0) == (0 if end == "the target ended" else 2)


# --- crowds --------------------------------------------------------------------------------------

PEOPLE = 11


def a_crowd(messages: int, change: Callable[[int, list[str]], list[str]]) -> Story:
    """Return a story in which each client hears all messages of others, changed by `change`."""
    story = Story(PEOPLE)
    names = [f"msg{at % PEOPLE}.{at // PEOPLE}" for at in range(messages)]
    for name in names:
        story.say(name)
    for who in range(PEOPLE):
        heard = change(who, [name for name in names if numbers_of(name)[0] != who])
        for first in range(0, len(heard), 7):
            story.hear(who, *heard[first : first + 7])
    return story


def test_cast_1_exactly_the_lost_messages_of_a_crowd_are_reported() -> None:
    lost: set[tuple[int, str]] = set()

    def change(who: int, heard: list[str]) -> list[str]:
        lost.update((who, name) for name in heard[5000::10_000])
        return [name for at, name in enumerate(heard) if at % 10_000 != 5000]

    judgement = a_crowd(11_000, change).judged()
    assert judgement.deliveries == 11_000 * (PEOPLE - 1) - len(lost)
    assert {(violation.who, violation.message) for violation in judgement.violations} == lost
    assert judgement.counts == {"lost": PEOPLE}


def test_all_violations_are_counted_and_the_first_are_listed() -> None:
    judgement = a_crowd(200, lambda _, heard: heard[100:]).judged()
    assert judgement.counts["lost"] == PEOPLE * 100
    assert len(judgement.violations) == SHOWN


@given(integers(0, 10_000))
def test_any_change_to_the_messages_of_one_member_is_found(seed: int) -> None:
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


def test_a_control_character_becomes_its_picture() -> None:
    assert harmless(b"\x07") == "␇".encode()


# --- a model of a correct room -------------------------------------------------------------------


class Guest:
    """A connection to the model of a room. cursor: number of log entries that were sent to it."""

    def __init__(self, who: int) -> None:
        self.who = who
        self.cursor: int | None = None
        self.welcomed = False
        self.here = True
        self.said = 0
        self.inbox = ""
        """Text that the guest has sent and the room has not read."""
        self.begun = ""
        """Unfinished line that the room has read."""
        self.rest = ""
        """Part of the latest message that the guest has not sent yet."""
        self.heard: list[object] = []


class Room:
    """A model of a correct room. Its guests act at random, and a story records their events."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.story = Story()
        self.log: list[tuple[int, str, str]] = []
        """Sender, line, and the message's name if the line is a whole message ("" otherwise)."""
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
        """Make the guest a member, before its welcome arrives."""
        if guest.cursor is None:
            guest.cursor = len(self.log)

    def welcome(self, guest: Guest) -> None:
        if guest.cursor is not None and not guest.welcomed:
            guest.welcomed = True
            self.story.what(guest.who, "welcomed")

    def say(self, guest: Guest) -> None:
        self.go_on(guest)
        name = f"msg{guest.who}.{guest.said}"
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
            name = f"msg{guest.who}.{guest.said - 1}"
            begun = next(event["t"] for event in self.story.events if event.get("says") == name)
            self.story.add(who=guest.who, sent=name, gap=self.story.t - begun)

    def read(self, guest: Guest) -> None:
        *lines, guest.begun = (guest.begun + guest.inbox).split("\n")
        guest.inbox = ""
        for line in lines:
            self.tell(guest, line)

    def tell(self, guest: Guest, line: str) -> None:
        name = line.partition(":")[0]
        own = name.startswith(f"msg{guest.who}.")  # a piece may look like another guest's message
        whole = own and line.encode() == self.story.texts.get(name)
        self.log.append((guest.who, line, name if whole else ""))

    def flush(self, guest: Guest) -> None:
        """Deliver the guest's unfinished line, as after the silence of LINE-5."""
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
        if how == "reset":  # some of the unread input is lost
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
        """Return the deliveries of whole messages to guests that were welcomed before, and stayed.

        A delivery is a list of the messages that a guest heard, and an index into it.
        """
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
def test_the_history_of_a_correct_room_has_no_violations(seed: int) -> None:
    assert Room(seed).story.judged().violations == []


@given(integers(0, 1 << 32), sampled_from(["lost", "duplicated", "echoed"]))
def test_any_change_to_a_correct_history_is_found_or_undecided(seed: int, how: str) -> None:
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
            assume(room.guests[numbers_of(name)[0]].here)
            room.story.hear(numbers_of(name)[0], name)
    judgement = room.story.judged()
    assert judgement.counts[how] == 1 or judgement.undecided > undecided


@given(integers(0, 1 << 32))
def test_a_torn_or_misprefixed_message_is_found(seed: int) -> None:
    room = Room(seed)
    chances = room.deliveries()
    assume(chances)
    heard, at = room.chance.choice(chances)
    name = heard[at]
    assert isinstance(name, str)
    text = room.story.texts[name].decode()
    heard[at] = {"line": f"<127.0.0.1>{text}"}
    assert room.story.judged().counts == {"misprefixed": 1}
    heard[at] = {"line": f"<{room.story.addresses[numbers_of(name)[0]]}>{text}!"}
    assert room.story.judged().counts == {"torn": 1}


@given(integers(0, 1 << 32))
def test_a_correct_history_that_was_cut_short_has_no_violations(seed: int) -> None:
    """A correct history stays correct if it is cut short after any event."""
    story = Room(seed).story
    del story.events[random.Random(seed).randrange(len(story.events) + 1) :]
    assert story.judged("").violations == []


def test_invalid_bytes_before_a_message_are_a_wrong_prefix() -> None:
    """The result is the same after the first piece of another message."""
    story = Story(2)
    story.say("msg0.0", b"abcdef", gap=0.2)
    story.say("msg0.1", b"hello")
    story.line(1, b"<127.0.0.2>msg0.0:abc")
    story.line(1, b"<127.0.0.2>\xffmsg0.1:hello")
    assert story.judged().counts.keys() >= {"misprefixed"}
