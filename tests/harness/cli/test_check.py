"""The command `check`: it judges complete and incomplete histories, and rejects other files."""

import json
from pathlib import Path

import pytest

from harness.cli.main import main
from harness.simulation import history
from harness.simulation.history import COMPLETE, VERSION
from tests.harness.simulation.story import Story


def saved(folder: Path, story: Story, end: str = COMPLETE) -> str:
    path = folder / history.HISTORY
    header = {"history": VERSION, "scenario": "s", "seed": 1, "target": "t", "seconds": 1.0}
    with path.open("w", encoding="utf-8") as file:
        for event in [header, *story.events]:
            history.write(event, file)
        if end:
            history.write({"t": story.t, "end": end}, file)
    return str(path)


def talk(heard: int = 3) -> Story:
    """Return a story of three messages: client 1 hears all, client 2 only the last `heard`."""
    story = Story(3)
    names = ["msg0.0", "msg0.1", "msg0.2"]
    for name in names:
        story.say(name)
    story.hear(1, *names)
    story.hear(2, *names[-heard:])
    return story


def test_a_history_without_violations_passes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check", saved(tmp_path, talk())]) == 0
    assert capsys.readouterr().out.startswith("pass\n3 members at once")


def test_a_history_with_a_violation_fails_and_is_saved_as_json(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "results.json"
    assert main(["check", saved(tmp_path, talk(2)), "--json", str(out)]) == 1
    said = capsys.readouterr().out
    assert said.startswith("fail: 1 lost\n")
    assert (
        "msg0.0 of Ann (p, 127.0.0.2) never reached Cleo (p, 127.0.0.4), which received msg0.1"
        in said
    )
    found = json.loads(out.read_text())
    assert (found["verdict"], found["lost"]) == ("fail", 1)
    assert found["violations"][0]["message"] == "msg0.0"


@pytest.mark.parametrize(("heard", "status", "verdict"), [(3, 2, "unknown"), (2, 1, "fail")])
def test_a_history_that_was_cut_short_is_judged_as_far_as_it_goes(
    heard: int,
    status: int,
    verdict: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = saved(tmp_path, talk(heard), "")
    with open(path, "a", encoding="utf-8") as file:
        file.write('{"t":9.0,"who":1,"hea')
    assert main(["check", path]) == status
    said = capsys.readouterr().out
    assert said.startswith(verdict)
    assert "cut short" in said


def test_a_profile_defines_the_server_s_prefixes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    story = Story(2)
    story.say("msg0.0")
    story.line(1, b"<user0> msg0.0:hi")
    path = saved(tmp_path, story)
    assert main(["check", path, "--profile", "ncat-chat"]) == 4  # PREFIX-2 is judged by names
    assert main(["check", path]) == 1
    assert "1 misprefixed" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (None, "can't be read: No such file or directory"),
        ("", "is empty"),
        ("what\n", "line 1 is not JSON"),
        ('{"verdict":"pass"}\n', "is not a history: its first line must have"),
        ('{"history":2}\n{"t":1,"who":1,"sent":"one"}\n', "line 2 is not an event"),
    ],
)
def test_an_error_is_reported_in_one_line(
    text: str | None, complaint: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "history.jsonl"
    if text is not None:
        path.write_text(text)
    with pytest.raises(SystemExit) as ended:
        main(["check", str(path)])
    assert ended.value.code == 2
    error = capsys.readouterr().err
    assert complaint in error
    assert str(path) in error
    assert error.count("\n") == 1


def test_an_unknown_profile_is_reported_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["check", saved(tmp_path, talk()), "--profile", "nope"])
    assert ended.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_inconsistent_events_are_judged_without_an_error(tmp_path: Path) -> None:
    """Events can be inconsistent if some lines of a history are missing."""
    story = Story(2)
    story.add(who=0, sent="msg0.7", gap=0.0)
    story.hear(1, "msg0.8", "msg7.7")
    story.fault("restart", "ends")
    story.what(9, "leaves", how="close")
    story.what(8, "ended", how="closed")
    assert main(["check", saved(tmp_path, story)]) == 2
