"""The pytest plugin. Each test here writes test files, and runs pytest with the plugin on them."""

import contextlib
import json
import re
import shlex
import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.conformance import trial
from harness.conformance.plugin import RESULT
from harness.target.target import Command

pytest_plugins = ["pytester"]

ROOT = Path(__file__).parents[2]
REFERENCE = f"{shlex.quote(sys.executable)} -m harness.reference {{host}} {{port}}"

HEAD = """
import asyncio, os, signal, socket, time
import pytest
from harness.errors import *
from harness.conformance.evidence import *
"""

TWO = """
@pytest.mark.clause("CAST-7", OBSERVED)
async def test_alone(room):
    await room.join(1)

@pytest.mark.clause("LINE-4", PROVED)
async def test_line(room):
    await room.join(2)
"""

#: Code that ends a conformance test: its verdict, pytest's outcome, and a part of its detail.
ENDS = {
    "pass": ("pass", "passed", ""),
    "raise Violation('late', b'a\\n', b'\\xff')": ("fail", "failed", "late"),
    "raise Undecided('one address')": ("unknown", "skipped", "one address"),
    "raise NotApplicable('no welcome')": ("not-applicable", "skipped", "no welcome"),
    "raise CannotJudge('too late')": ("could-not-judge", "failed", "too late"),
    "raise StartError('it ended')": ("unknown", "skipped", "a second server of this kind"),
    "pytest.skip('not here')": ("unknown", "skipped", "not here"),
    "assert 1 == 2": ("could-not-judge", "failed", "the harness failed at test_it:"),
    "raise TimeoutError('mine')": ("could-not-judge", "failed", "TimeoutError('mine')"),
    "member = await room.connect()\n"
    "    os.kill(room.target.processes()[0].pid, 9)\n"
    "    await member.hears(b'never', 1)": ("fail", "failed", "the server ended (SIGKILL)"),
}  # fmt: skip


@pytest.fixture
def tests(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """Return a folder for test files, which can import the harness. Other plugins are disabled."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)
    pytester.makeconftest(
        "def pytest_runtest_logreport(report):\n"
        "    import json, os\n"
        "    if 'PYTEST_XDIST_WORKER' in os.environ: return  # the controller reports\n"
        "    with open('reports', 'a') as file:\n"
        "        print(json.dumps([report.outcome, report.user_properties]), file=file)\n"
    )
    return pytester


def run(tests: pytest.Pytester, *options: str) -> pytest.RunResult:
    """Run pytest with the plugin in this process. A subprocess would take ten times as long."""
    return tests.runpytest_inprocess(
        "-p", "harness.conformance.plugin", "-p", "no:cacheprovider", *options
    )


def judge(tests: pytest.Pytester, *options: str) -> pytest.RunResult:
    return run(tests, "--command", REFERENCE, *options)


def results(tests: pytest.Pytester) -> list[tuple[str, dict[str, Any]]]:
    """Return each result, with pytest's outcome."""
    reports = map(json.loads, (tests.path / "reports").read_text().splitlines())
    return [
        (outcome, json.loads(text))
        for outcome, properties in reports
        for name, text in properties
        if name == RESULT
    ]


def test_each_end_of_a_test_has_its_verdict(tests: pytest.Pytester) -> None:
    for number, end in enumerate(ENDS):
        body = f"async def test_it(room):\n    {end}\n"
        tests.makepyfile(
            **{f"test_{number:02}": f"{HEAD}\n@pytest.mark.clause('CAST-1', PROVED)\n{body}"}
        )
    judge(tests, "--import-mode=importlib")
    found = results(tests)
    assert [(result["verdict"], outcome) for outcome, result in found] == [
        end[:2] for end in ENDS.values()
    ]
    for (_, result), (_, _, detail) in zip(found, ENDS.values(), strict=True):
        assert detail in result["detail"]
        assert result["detail"].count("the server ended") <= 1
        assert (result["test"], result["clause"], result["evidence"]) == (
            "test_it",
            "CAST-1",
            "proved",
        )
    violation = found[1][1]
    assert (violation["expected"], violation["actual"]) == ("610a", "ff")
    assert found[-1][1]["wire"][0][1:3] == ["A", "connects"]


def test_the_output_of_a_result_is_what_was_printed_during_the_test(
    tests: pytest.Pytester,
) -> None:
    """With --announce, the server prints a line at its start, perhaps during the first test."""
    mark = "@pytest.mark.clause('CAST-1', PROVED)\n"
    printed = "while not room.output().endswith('\\n'): await asyncio.sleep(0.01)"
    one = f"{mark}async def test_one(room):\n    {printed}\n"
    other = f"{mark}async def test_other(room):\n    await room.enter()\n"
    tests.makepyfile(f"{HEAD}\n{one}{other}")
    run(tests, "--command", f"{REFERENCE} --announce")
    (_, first), (_, second) = results(tests)
    assert first["verdict"] == second["verdict"] == "pass"
    assert second["output"] == ""


def test_a_test_that_never_ends_is_cut_off(
    tests: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trial, "LIMIT", 0.1)
    test = "async def test_it(room):\n    await asyncio.sleep(60)\n"
    tests.makepyfile(f"{HEAD}\n@pytest.mark.clause('CAST-1', PROVED)\n{test}")
    judge(tests, "--timeout-scale=2")
    [(_, result)] = results(tests)
    assert (result["verdict"], result["detail"]) == ("fail", "the test did not end within 1 s")


def test_a_harness_that_was_late_cannot_judge(tests: pytest.Pytester) -> None:
    tests.makepyfile(f"""{HEAD}
@pytest.mark.clause('CAST-1', PROVED)
async def test_late(room):
    await asyncio.sleep(0)
    time.sleep(1.4)
    raise Violation('x')

@pytest.mark.clause('CAST-1', PROVED)
async def test_blocked(room):
    await asyncio.sleep(0)
    room.another("--hopeless starts-late")
    raise Violation('x')
""")
    judge(tests)
    late, blocked = [result for _, result in results(tests)]
    assert late["verdict"] == "could-not-judge"
    assert re.match(r"the harness itself was [1-9]\.", late["detail"])
    assert (blocked["verdict"], blocked["detail"]) == ("fail", "x")


def test_line_2_a_server_is_not_judged_by_pauses_that_became_too_long(
    tests: pytest.Pytester,
) -> None:
    tests.makepyfile(HEAD + LATE_ONCE)
    judge(tests)
    [(outcome, found)] = results(tests)
    assert (outcome, found["detail"]) == ("passed", "")


#: A test whose first attempt sends a piece late, so that the server delivers half a word.
LATE_ONCE = """
from harness.conformance.tests import test_messages
from harness.conformance.tests.test_messages import test_a_line_in_pieces_is_one_message

@pytest.fixture(autouse=True)
def late_once(monkeypatch):
    whole = test_messages._say_in_pieces
    async def late(speaker, pieces, *others):
        monkeypatch.setattr(test_messages, "_say_in_pieces", whole)
        first, *rest = pieces
        await speaker.say(first)
        await asyncio.sleep(0.3)
        return 0.3 + await whole(speaker, rest, *others)
    monkeypatch.setattr(test_messages, "_say_in_pieces", late)
"""


def test_a_clause_without_meaning_in_the_dialect_is_not_judged(tests: pytest.Pytester) -> None:
    tests.makepyfile(HEAD + TWO.replace("LINE-4", "PREFIX-3"))
    (tests.path / "ports.toml").write_text("prefix = '(?P<port>[0-9]+): '")
    judge(tests, "--profile=ports.toml")
    (_, alone), (outcome, result) = results(tests)
    assert alone["verdict"] == "pass"
    assert (result["verdict"], outcome) == ("not-applicable", "skipped")
    assert result["detail"] == "in this dialect, prefixes contain no address"
    assert result["wire"] == []


def test_long_received_data_is_cut_in_the_result(tests: pytest.Pytester) -> None:
    test = "async def test_it(room):\n    raise Violation('much', None, bytes(9 << 20))\n"
    tests.makepyfile(f"{HEAD}\n@pytest.mark.clause('CAST-1', PROVED)\n{test}")
    judge(tests)
    [(_, result)] = results(tests)
    assert len(result["actual"]) == 2 << 20


@pytest.mark.parametrize(
    ("options", "chosen"),
    [
        ([], ["test_alone", "test_line"]),
        (["--clause=LINE-4"], ["test_line"]),
        (["--clause=LINE-4", "--clause=CAST-7"], ["test_alone", "test_line"]),
        (["--repeat=2", "--clause=LINE-4"], ["test_line[1]", "test_line[2]"]),
    ],
)
def test_clauses_are_selected(
    tests: pytest.Pytester, options: list[str], chosen: list[str]
) -> None:
    tests.makepyfile(HEAD + TWO + "\ndef test_else():\n    pass\n")
    assert judge(tests, *options).parseoutcomes()["passed"] == len(chosen) + 1
    assert [result["test"] for _, result in results(tests)] == chosen


@pytest.mark.parametrize(
    ("test", "complaint"),
    [
        ("clause('CAST-99', PROVED)\nasync def test_it(room): ...", "unknown clause 'CAST-99'"),
        ("clause('CAST-1', 'sure')\nasync def test_it(room): ...", "or evidence 'sure'"),
        (
            "clause('CAST-1')\nasync def test_it(room): ...",
            "the marker must be clause(id, evidence)",
        ),
        ("clause('CAST-1', PROVED)\ndef test_it(room): ...", "must be a coroutine function"),
        ("clause('CAST-1', PROVED)\nasync def test_it(): ...", "must have the fixture `room`"),
    ],
)
def test_an_invalid_conformance_test_is_refused(
    tests: pytest.Pytester, test: str, complaint: str
) -> None:
    tests.makepyfile(f"{HEAD}\n@pytest.mark.{test}\n")
    done = judge(tests)
    assert done.ret == pytest.ExitCode.USAGE_ERROR
    assert complaint in done.stderr.str()
    assert not (tests.path / "reports").exists()


@pytest.mark.parametrize(
    ("options", "status", "complaint"),
    [
        ([], 4, "give either --command or --target"),
        (["--target=nowhere"], 4, "'nowhere' is not HOST:PORT"),
        (["--target=a:1", "--target=b"], 4, "'b' is not HOST:PORT"),
        ([f"--command={REFERENCE}", "--profile=none"], 4, "profile 'none' is neither a file nor"),
        (["--command=/nowhere {port}"], 3, "the target did not start: can't run '/nowhere'"),
    ],
)
def test_a_missing_target_is_an_error(
    tests: pytest.Pytester, options: list[str], status: int, complaint: str
) -> None:
    tests.makepyfile(HEAD + TWO)
    done = run(tests, *options)
    assert done.ret == status
    assert complaint in done.stdout.str() + done.stderr.str()


def test_the_plugin_does_nothing_to_other_tests(tests: pytest.Pytester) -> None:
    tests.makepyfile("def test_fine(): pass\nasync def test_other(): pass")
    run(tests, "-W", "ignore", "--strict-markers", "-k", "fine").assert_outcomes(
        passed=1, deselected=1
    )
    assert results(tests) == []


ANOTHER = """
def pytest_addoption(parser):
    parser.addoption("--seed", default="theirs")
    parser.addoption("--profile", action="store_true")
"""


@pytest.mark.parametrize("order", [["another", "harness.entry"], ["harness.entry", "another"]])
def test_an_installed_plugin_does_not_disturb_other_plugins(
    tests: pytest.Pytester, order: list[str]
) -> None:
    tests.makepyfile(
        another=ANOTHER,
        test_it="""
def test_it(pytestconfig):
    assert (pytestconfig.option.seed, pytestconfig.option.profile) == ("theirs", True)
""",
    )
    plugins = [part for name in order for part in ("-p", name)]
    tests.runpytest_subprocess(*plugins, "--profile", timeout=50).assert_outcomes(passed=1)


@pytest.mark.parametrize("option", ['"--profile"', '"--random-seed", dest="seed"'])
def test_an_option_that_another_plugin_has_too_is_a_usage_error(
    tests: pytest.Pytester, option: str
) -> None:
    tests.makepyfile(another=f"def pytest_addoption(parser): parser.addoption({option})")
    done = tests.runpytest_subprocess(
        *("-p", "another", "-p", "harness.entry", "--pyargs", "harness.conformance"), timeout=50
    )
    assert done.ret == pytest.ExitCode.USAGE_ERROR
    [line] = filter(None, done.errlines)
    assert re.match("ERROR: another plugin has an option --(profile|seed), too: disable", line)


#: A plugin that runs all coroutine functions, as pytest-asyncio does with `asyncio_mode = "auto"`.
TAKES_ALL = """
import asyncio, inspect, pytest

class Coroutine(pytest.Function):
    def runtest(self):
        test = self.obj
        self.obj = lambda *args, **kwargs: asyncio.run(test(*args, **kwargs))
        super().runtest()

@pytest.hookimpl(wrapper=True)
def pytest_pycollect_makeitem():
    made = yield
    return [taken(node) for node in made] if isinstance(made, list) else made

def taken(node):
    if not inspect.iscoroutinefunction(getattr(node, "obj", None)):
        return node
    return Coroutine.from_parent(
        node.parent, name=node.name, callspec=getattr(node, "callspec", None), callobj=node.obj,
        fixtureinfo=node._fixtureinfo, originalname=node.originalname,
    )
"""


@pytest.mark.parametrize("first", [True, False])
def test_a_plugin_for_asynchronous_tests_does_not_run_conformance_tests(
    tests: pytest.Pytester, first: bool
) -> None:
    other = "async def test_other():\n    await asyncio.sleep(0)\n"
    tests.makepyfile(test_it=HEAD + TWO + other, takes_all=TAKES_ALL)
    plugins = ["-p", "harness.conformance.plugin"]
    plugins[0 if first else 2 : 0] = ["-p", "takes_all"]
    tests.runpytest_subprocess(
        *plugins, "--command", REFERENCE, "--repeat=2", timeout=50
    ).assert_outcomes(passed=5)
    assert len(results(tests)) == 4


@pytest.mark.parametrize("more", [[], ["-p", "xdist.plugin", "-n2"]])
def test_an_installed_plugin_runs_the_conformance_tests(
    tests: pytest.Pytester, more: list[str]
) -> None:
    only = ["--clause=LINE-4", "--clause=CAST-7", "--seed=3"]
    done = tests.runpytest_subprocess(
        *("-p", "harness.entry", *more, "--pyargs", "harness.conformance"),
        *("--command", REFERENCE, *only),
        timeout=50,
    )
    assert done.parseoutcomes()["passed"] == 2


def test_after_a_failure_the_next_test_has_another_server(tests: pytest.Pytester) -> None:
    ports = "    with open('ports', 'a') as file: print(room.target.port, file=file)\n"
    tests.makepyfile(
        HEAD
        + "".join(
            f"@pytest.mark.clause('CAST-1', PROVED)\n"
            f"async def test_{name}(room):\n{ports}    {end}\n"
            for name, end in (("a", "pass"), ("b", "raise Violation('x')"), ("c", "pass"))
        )
    )
    judge(tests)
    first, second, third = (tests.path / "ports").read_text().split()
    assert first == second != third


#: A server that delivers nothing after a message with the word `poison`.
FRAGILE = """
import sys
from harness.reference.server import Options, Server
class Fragile(Server):
    def say(self, sender, messages):
        super().say(sender, messages)
        if any(b"poison" in message for message in messages):
            self.recipients = lambda sender: []
Fragile(Options(sys.argv[1], int(sys.argv[2]))).run()
"""


def test_a_failure_that_an_earlier_test_caused_counts_for_the_earlier_test(
    tests: pytest.Pytester,
) -> None:
    ends = {
        "before": ("CAST-1", "await one.say(b'poison')"),
        "it": ("CAST-3", "await room.tell(one, other)"),
        "fine": ("CAST-4", "await room.tell(one, other)"),
        "once": ("CAST-5", "await room.tell(one, other); once()"),
    }
    tests.makepyfile(
        HEAD
        + "def once():\n    if not os.path.exists('once'):\n"
        + "        open('once', 'w').close()\n        raise Violation('once')\n"
        + "".join(
            f"@pytest.mark.clause('{clause}', PROVED)\n"
            f"async def test_{name}(room):\n    one, other = await room.join(2)\n    {end}\n"
            for name, (clause, end) in ends.items()
        )
    )
    (tests.path / "fragile.py").write_text(FRAGILE)
    server = f"{shlex.quote(sys.executable)} {tests.path / 'fragile.py'} {{host}} {{port}}"
    run(tests, "--command", server, "--timeout-scale=0.3")
    found = [
        (result["test"], result["clause"], result["verdict"], result["detail"])
        for _, result in results(tests)
    ]
    assert found[0] == ("test_before", "CAST-1", "pass", "")
    assert found[1][:3] == ("test_it", "CAST-3", "pass")
    assert "probably a consequence of CAST-1" in found[1][3]
    assert found[2][:3] == ("test_before", "CAST-1", "fail")
    assert "after this test, test_it (CAST-3) fails" in found[2][3]
    assert found[3] == ("test_fine", "CAST-4", "pass", "")
    assert found[4] == ("test_once", "CAST-5", "fail", "once (but not every time)")


def test_after_a_test_that_leaves_the_server_busy_the_next_has_another_server(
    tests: pytest.Pytester,
) -> None:
    """The tutorial's server reads the end of a closed connection again and again."""
    test = """
@pytest.mark.clause("CAST-1", PROVED)
@pytest.mark.parametrize("number", range(2))
async def test_it(room, number):
    member = await room.connect()
    await member.hears(b"practice")
    with open("ports", "a") as file: print(room.target.port, file=file)
"""
    tests.makepyfile(HEAD + test)
    server = shlex.quote(str(Path(__file__).parent / "tutorial.py"))
    run(tests, "--command", f"{shlex.quote(sys.executable)} {server} {{host}} {{port}}")
    first, second = (tests.path / "ports").read_text().split()
    assert first != second


def test_the_death_of_a_running_server_fails_only_one_test(
    tests: pytest.Pytester,
) -> None:
    server = Command(REFERENCE)
    server.start()
    kills = f"""os.kill({server.processes()[0].pid}, 9)
    with pytest.raises(RefusedError):
        while True:
            await room.connect()"""
    tests.makepyfile(
        HEAD
        + "".join(
            f"@pytest.mark.clause('{clause}', PROVED)\n"
            f"async def test_{name}(room):\n    member = await room.connect()\n    {end}\n"
            for name, clause, end in (
                ("a", "CAST-1", "pass"),
                ("b", "CAST-2", kills),
                ("c", "CAST-3", "pass"),
                ("d", "CAST-4", "pass"),
            )
        )
    )
    try:
        done = run(tests, f"--target={server.host}:{server.port}")
    finally:
        server.stop()
    done.assert_outcomes(passed=2, failed=1, skipped=1)
    assert [
        (result["test"], result["clause"], result["verdict"]) for _, result in results(tests)
    ] == [
        ("test_a", "CAST-1", "pass"),
        ("test_b", "CAST-2", "pass"),
        ("test_c", "CAST-3", "unknown"),
        ("test_c", "JOIN-1", "fail"),
        ("test_d", "CAST-4", "unknown"),
    ]
    assert results(tests)[-1][1]["detail"].endswith("since CAST-2")


@contextlib.contextmanager
def stranger(port: int, answers: int) -> Iterator[None]:
    """Join the room with a client that answers the first `answers` texts that it receives."""

    def talk() -> None:
        for _ in range(answers):
            if not member.recv(1 << 16):
                return
            member.sendall(b"and who are you?\n")
        while member.recv(1 << 16):
            pass

    with socket.create_connection(("127.0.0.1", port)) as member:
        member.recv(1 << 16)  # the welcome
        thread = threading.Thread(target=talk)
        thread.start()
        try:
            yield
        finally:
            member.shutdown(socket.SHUT_RDWR)
            thread.join()


AMONG_STRANGERS = """
from harness.conformance.tests.test_messages import test_text_without_line_end_is_delivered
from harness.conformance.tests.test_load import test_a_flood_is_throttled_and_loses_nothing
"""


@pytest.mark.parametrize(
    ("answers", "verdict"), [(0, "pass"), (3, "pass"), (1 << 20, "could-not-judge")]
)
def test_line_5_and_load_3_are_not_judged_while_a_stranger_talks(
    tests: pytest.Pytester, answers: int, verdict: str
) -> None:
    tests.makepyfile(HEAD + AMONG_STRANGERS)
    server = Command(REFERENCE)
    server.start()
    try:
        with stranger(server.port, answers):
            run(tests, f"--target={server.host}:{server.port}", "--profile=reference")
    finally:
        server.stop()
    found = {result["clause"]: result for _, result in results(tests)}
    assert {found["LINE-5"]["verdict"], found["LOAD-3"]["verdict"]} == {verdict}
    said = "somebody else is in the room, and said <127.0.0.1>and who are you?"
    assert (said in found["LINE-5"]["detail"]) == (verdict != "pass")


def test_a_broken_server_fails_while_nobody_else_is_in_its_room(tests: pytest.Pytester) -> None:
    tests.makepyfile(HEAD + AMONG_STRANGERS)
    server = Command(REFERENCE, "--broken adds-lf")
    server.start()
    try:
        run(tests, f"--target={server.host}:{server.port}", "--clause=LINE-5")
    finally:
        server.stop()
    [(_, result)] = results(tests)
    assert (result["verdict"], result["detail"]) == (
        "fail",
        "something was added to text without LF",
    )


def test_random_numbers_depend_on_the_seed_and_the_test_name(tests: pytest.Pytester) -> None:
    noted = (
        "async def test_{}(room):\n"
        "    with open('drawn', 'a') as file: print(room.random.random(), file=file)\n"
    )
    head = "@pytest.mark.clause('CAST-1', PROVED)\n"
    tests.makepyfile(HEAD + "".join(head + noted.format(name) for name in "ab"))
    for seed in (5, 5, 6):
        judge(tests, f"--seed={seed}")
    drawn = (tests.path / "drawn").read_text().split()
    assert drawn[:2] == drawn[2:4]
    assert len(set(drawn)) == 4


def test_with_xdist_each_process_has_its_own_server(tests: pytest.Pytester) -> None:
    # Each of the two tests waits for the other, so they must run in two processes.
    test = """
@pytest.mark.clause("CAST-1", PROVED)
@pytest.mark.parametrize("one, other", [("a", "b"), ("b", "a")])
async def test_it(room, one, other):
    with open(one, "w") as file:
        file.write(f"{room.target.port}")
    while not os.path.exists(other):
        await asyncio.sleep(0.01)
    await room.join(2)
"""
    tests.makepyfile(HEAD + test)
    judge(tests, "-p", "xdist.plugin", "-n2").assert_outcomes(passed=2)
    assert (tests.path / "a").read_text() != (tests.path / "b").read_text()
    assert [result["verdict"] for _, result in results(tests)] == ["pass", "pass"]


@pytest.mark.parametrize(
    "order",
    [
        ["-p", "xdist.plugin", "-p", "harness.conformance.plugin"],
        ["-p", "harness.conformance.plugin", "-p", "xdist.plugin"],
    ],
)
def test_a_running_server_is_judged_in_one_process_in_order(
    tests: pytest.Pytester, order: list[str]
) -> None:
    tests.makepyfile(
        HEAD + TWO + "\n@pytest.fixture(autouse=True)\ndef where():\n"
        "    assert 'PYTEST_XDIST_WORKER' not in os.environ\n"
    )
    server = Command(REFERENCE)
    server.start()
    try:
        target = f"--target={server.host}:{server.port}"
        done = tests.runpytest_subprocess(*order, "-n2", target, timeout=50)
        done.assert_outcomes(passed=2)
        assert server.death() == ""
    finally:
        server.stop()
    assert [result["test"] for _, result in results(tests)] == ["test_alone", "test_line"]
