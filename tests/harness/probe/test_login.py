"""The ways to log in that the output of an unknown server suggests."""

import pytest

from harness.probe.login import hints, next_answer


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        (b"Welcome to the chat!\n", []),
        (b"Type /nick <name> to begin\n", ["/nick {name}"]),
        (b"Use /login USERNAME PASSWORD first.\n", ["/login {name} secret"]),
        (b"Commands: LOGIN <username>, QUIT\n", ["LOGIN {name}"]),
        (b'Please log in with "login:YOUR_NAME"\r\n', ["login:{name}"]),
        (b"Send AUTH:<user>:<password>\n", ["AUTH:{name}:secret"]),
        (b"Your nickname: ", []),
        (b"/setname your name\n/quit\n/setname NAME", ["/setname {name}"]),
    ],
)
def test_hints_returns_the_login_command_of_a_help_text(output: bytes, expected: list[str]) -> None:
    assert hints(output) == expected


@pytest.mark.parametrize(
    ("output", "answer"),
    [
        (b"", None),
        (b"Welcome, ann!\n", None),
        (b"ann: ", None),
        (b"Your name: ", "{name}"),
        (b"Taken.\nAnother nickname? ", "{name}"),
        (b"Password: ", "secret"),
        (b"Now send your password\n", "secret"),
        (b"Which room? ", "lobby"),
        (b"Register as new user (y/n)? ", "y"),
        (b"Your name is ann\n", None),
    ],
)
def test_a_question_is_answered(output: bytes, answer: str | None) -> None:
    assert next_answer(output) == answer
