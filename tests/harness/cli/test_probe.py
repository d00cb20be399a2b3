"""The command `probe`: patterns from texts, and profiles of real servers."""

import argparse
import re
import shlex
import sys
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from harness import profile
from harness.cli.probe import MOST, Findings, add_arguments, as_toml, pattern, run
from tests.programs import program

PYTHON = shlex.quote(sys.executable)
HERE = shlex.quote(str(Path(__file__).parents[1]))
REFERENCE = f"{PYTHON} -m harness.reference {{host}} {{port}}"
TUTORIAL = f"{PYTHON} {HERE}/tutorial.py {{host}} {{port}}"

# --- pure ----------------------------------------------------------------------------------------


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
def test_a_pattern_matches_every_text_it_was_made_from(texts: list[bytes]) -> None:
    found = re.compile(pattern(texts).encode())
    assert all(found.fullmatch(text) for text in texts if text)


@given(st.text(), st.lists(heard), st.lists(heard), st.lists(heard.map(lambda text: text + b"\n")))
@example("x\ny\ud800", [b"it's\n", b"it's 1"], [b'"it\'s"\\ '], [b"a\x7f'\n"])
def test_the_written_toml_is_a_valid_profile(
    name: str, welcomes: list[bytes], prefixes: list[bytes], notices: list[bytes]
) -> None:
    notices = [line.replace(b"\n", b"") + b"\n" for line in notices]
    text = as_toml(name, Findings(welcomes, prefixes, notices, ["LINE-2"]))
    text.encode()
    made = profile.parse(text, "made")
    assert made.claims == {"LINE-2"}
    assert bool(made.welcome) == any(welcomes)
    for welcome in filter(None, welcomes):
        assert made.welcome
        assert made.welcome.fullmatch(welcome)
    for prefix in filter(None, prefixes):
        assert made.prefix.fullmatch(prefix)
    for notice in notices:
        assert any(pattern.fullmatch(notice) for pattern in made.notices)


# --- real servers --------------------------------------------------------------------------------


def probe(*arguments: str) -> int:
    parser = argparse.ArgumentParser("probe")
    add_arguments(parser)
    return run(parser.parse_args(arguments), parser)


def probed(command: str, tmp_path: Path) -> profile.Profile:
    assert probe("--command", command, "--out", str(tmp_path / "made.toml")) == 0
    return profile.load(str(tmp_path / "made.toml"))


def test_the_reference(tmp_path: Path) -> None:
    made = probed(REFERENCE, tmp_path)
    assert made.welcome
    assert made.welcome.fullmatch(b"Welcome to socket practice\n")
    assert made.prefix.fullmatch(b"<127.1.0.2>")
    assert made.notices == ()
    assert made.claims == {"LINE-2", "LINE-3", "LINE-6"}


def test_the_tutorial(tmp_path: Path) -> None:
    made = probed(TUTORIAL, tmp_path)
    assert made.welcome
    assert made.welcome == profile.load("tutorial").welcome
    assert made.prefix.fullmatch(b"<127.1.0.2>")
    assert (made.notices, made.claims) == ((), frozenset())


def test_ncat(tmp_path: Path) -> None:
    made = probed(f"{program('ncat')} --chat -l {{host}} {{port}}", tmp_path)
    assert made.welcome
    for others in (b"nobody", b"127.1.0.2 as user5", b"127.1.0.2 as user5, 127.1.0.3 as user6"):
        greeting = (
            b"<announce> 127.1.0.4 is connected as <user7>.\n<announce> already connected: %s.\n"
        )
        assert made.welcome.fullmatch(greeting % others)
    assert made.prefix.fullmatch(b"<user12> ")
    for notice in (b"127.1.0.9 is connected as <user12>", b"<user12> is disconnected"):
        assert any(pattern.fullmatch(b"<announce> " + notice + b".\n") for pattern in made.notices)


def test_an_echoed_message_is_not_taken_for_a_notice(tmp_path: Path) -> None:
    assert probed(f"{REFERENCE} --broken echoes", tmp_path).notices == ()


def test_a_profile_has_no_welcome_if_the_server_sends_none(tmp_path: Path) -> None:
    assert probed(f"{REFERENCE} --broken no-welcome", tmp_path).welcome is None


def test_a_profile_goes_to_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    assert probe("--command", REFERENCE) == 0
    assert profile.parse(capsys.readouterr().out, "out").claims


@pytest.mark.parametrize(
    ("hopeless", "complaint"),
    [
        ("floods-with-garbage", f"A received more than {MOST >> 10} KiB while no client sent"),
        ("closes-at-once", "and its connection was "),
        ("never-accepts", "did not receive the expected text"),
        ("exits-with-3", "did not start: it ended (exit status 3); its last line: no chat today"),
    ],
)
def test_a_server_that_cannot_be_probed_is_reported(
    hopeless: str,
    complaint: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit, match="3"):
        probe("--command", f"{REFERENCE} --hopeless {hopeless}", "--timeout-scale", "0.5")
    out, error = capsys.readouterr()
    assert out == ""
    assert complaint in error
