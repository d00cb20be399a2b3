"""The lines of a benchmark, the bytes due to each client, and the check of what was received."""

import pytest

from harness.bench import payload
from harness.bench.dialects import CHAT, DIALECTS, NATS, NCAT, REDIS, Dialect
from harness.bench.payload import ArrivalError, line

HEADS = {
    "chat": b"<127.0.0.1>",
    "ncat": b"<user4> ",
    "redis": b">3\r\n$7\r\nmessage\r\n$4\r\nroom\r\n$64\r\n",
    "nats": b"MSG room 1 64\r\n",
}


def heard(dialect: Dialect, *texts: bytes) -> bytes:
    return b"".join(HEADS[dialect.name] + text + dialect.tail for text in texts)


@pytest.mark.parametrize("speaker", [0, 7, 99_999])
def test_a_line_is_64_bytes_with_one_line_end(speaker: int) -> None:
    text = line(speaker, 3)
    assert len(text) == payload.SIZE
    assert text.endswith(payload.END)
    assert text.count(b"\n") == 1
    assert payload.speaker_of(text) == speaker


def test_lines_differ_by_speaker_and_round() -> None:
    said = {line(speaker, generation) for speaker in range(20) for generation in range(10)}
    assert len(said) == 200
    assert line(5, 13) == line(5, 3)


@pytest.mark.parametrize(
    ("dialect", "listener", "speakers", "expected"),
    [
        (CHAT, 0, range(3), 2 * (11 + 64)),
        (CHAT, 1, range(1), 11 + 64),
        (CHAT, 0, range(1), 0),
        (NATS, 2, range(3), 2 * (15 + 64 + 2)),
        (REDIS, 2, range(3), 3 * (32 + 64 + 2)),  # Redis also returns the client's own line
        (REDIS, 0, range(1), 32 + 64 + 2),
    ],
)
def test_the_number_of_bytes_due_depends_on_the_dialect(
    dialect: Dialect, listener: int, speakers: range, expected: int
) -> None:
    heads = dict.fromkeys(range(3), HEADS[dialect.name])
    assert payload.due(listener, speakers, dialect, heads) == expected


def test_the_number_of_bytes_due_counts_each_head_s_length() -> None:
    heads = {0: b"<user9> ", 1: b"<user10> ", 2: b"<user100> "}
    assert payload.due(1, range(3), NCAT, heads) == 8 + 64 + 10 + 64


@pytest.mark.parametrize("dialect", DIALECTS.values(), ids=list(DIALECTS))
def test_each_dialect_is_read(dialect: Dialect) -> None:
    own = [line(1, 2)] if dialect.echo else []
    data = heard(dialect, line(2, 2), line(0, 2), *own)
    heads = payload.check(data, 1, range(3), 2, dialect)
    assert heads == dict.fromkeys([0, 1, 2] if dialect.echo else [0, 2], HEADS[dialect.name])
    assert data.count(payload.ending(dialect)) == len(heads)


GOOD = heard(CHAT, line(0, 2), line(2, 2))


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (b"", "lacks 2 lines"),
        (heard(CHAT, line(0, 2)), "lacks 1 line, such as '2 00002"),
        (GOOD + heard(CHAT, line(2, 2)), "1 line too many, such as '2 00002"),
        (GOOD + heard(CHAT, line(1, 2)), "1 line too many, such as '2 00001"),
        (heard(CHAT, line(0, 2), line(0, 2)), "lacks 1 line.*and has 1 line too many"),
        (heard(CHAT, line(0, 2), line(2, 1)), "too many, such as '1 00002"),
        (GOOD.replace(b"fox", b"cat"), "lacks 2 lines.*and has 2"),
        (GOOD.replace(b"<127.0.0.1>", b"<127.0.0.2>"), "lacks 2 lines"),
        (GOOD[:-1], "lacks 1 line"),
        (b"Hi. " + GOOD, "received 'Hi. ' between"),
        (GOOD + b"Bye", "received 'Bye' between"),
        (GOOD.replace(b"\n<", b"\n\n<"), r"received '\\n' between"),
        (GOOD + b"x" * 99, r"received 'x{20}\.\.\.' between"),
    ],
)
def test_any_other_output_is_a_violation(data: bytes, complaint: str) -> None:
    assert payload.check(GOOD, 1, range(3), 2, CHAT)
    with pytest.raises(ArrivalError, match=f"client 1 .*{complaint}"):
        payload.check(data, 1, range(3), 2, CHAT)


def test_a_line_to_the_only_speaker_is_a_violation() -> None:
    assert payload.check(b"", 0, range(1), 2, CHAT) == {}
    with pytest.raises(ArrivalError, match="1 line too many"):
        payload.check(heard(CHAT, line(0, 2)), 0, range(1), 2, CHAT)


def test_all_clients_must_receive_the_same_name_for_a_speaker() -> None:
    assert payload.agree([{1: b"a"}, {0: b"b"}, {0: b"b", 1: b"a"}]) == {0: b"b", 1: b"a"}
    with pytest.raises(
        ArrivalError,
        match="client 2 received 'c' before the line of client 1, but another client received 'a'",
    ):
        payload.agree([{1: b"a"}, {0: b"b"}, {0: b"b", 1: b"c"}])
