"""The texts of simulated messages, and how a server should deliver them."""

import random

import pytest

from harness.simulation.scenario.scenario import ALPHABETS
from harness.simulation.scenario.vocabulary import MOST, TOKEN, harmless, numbers_of, payload, token


@pytest.mark.parametrize("alphabet", ALPHABETS)
def test_a_payload_is_one_random_line_of_the_given_size(alphabet: str) -> None:
    texts = [payload(random.Random(seed), alphabet, 50) for seed in range(50)]
    assert len(set(texts)) > 10
    assert not any(b"\n" in text or text.endswith(b"\r") for text in texts)
    if alphabet == "hostile":
        assert all(50 <= len(text) < 100 for text in texts)
    else:
        assert all(len(text.decode()) == 50 for text in texts)
    assert payload(random.Random(1), alphabet, 50) == texts[1]


@pytest.mark.parametrize("alphabet", ALPHABETS)
def test_line_7_no_payload_exceeds_the_size_that_must_arrive_whole(alphabet: str) -> None:
    text = payload(random.Random(1), alphabet, 5000)
    assert MOST - 100 <= len(text) <= MOST
    if alphabet != "hostile":
        text.decode()


def test_a_token_is_found_anywhere_in_a_line() -> None:
    found = TOKEN.search(b"<127.0.0.1>" + token(12, 345) + b"text")
    assert found is not None
    assert found[1] == b"msg12.345"
    assert numbers_of("msg12.345") == (12, 345)


def test_text_2_text_3_hostile_text_arrives_sanitised() -> None:
    assert harmless(b"a\tb\x07\x7f\rc") == "a\tb␇␡␍c".encode()
    assert harmless("\x85\u2028\u202e".encode()) == "\ufffd\ufffd\ufffd".encode()
    assert harmless(b"\xff\xe2\x82") == "\ufffd\ufffd".encode()
    assert harmless("naïve 語 🙂 ש".encode()) == "naïve 語 🙂 ש".encode()
