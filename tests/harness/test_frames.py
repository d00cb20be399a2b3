"""Frames of WebSockets, as bytes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.frames import (
    CLOSE,
    MASK,
    NO_CODE,
    PING,
    TEXT,
    apply_mask,
    close_code,
    close_payload,
    encode,
    read_header,
)


@pytest.mark.parametrize(
    ("frame", "written"),
    [  # the examples of RFC 6455, section 5.7
        (encode(TEXT, b"Hello", mask=b""), "81 05 48 65 6c 6c 6f"),
        (encode(TEXT, b"Hello", mask=bytes.fromhex("37fa213d")), "81 85 37fa213d 7f9f4d5158"),
        (encode(TEXT, b"Hel", fin=False, mask=b""), "01 03 48 65 6c"),
        (encode(0, b"lo", mask=b""), "80 02 6c 6f"),
        (encode(PING, b"Hello", mask=b""), "89 05 48 65 6c 6c 6f"),
        (encode(2, bytes(256), mask=b""), "82 7e 0100" + "00" * 256),
        (encode(2, bytes(65536), mask=b""), "82 7f 0000000000010000" + "00" * 65536),
    ],
)
def test_frames_are_those_of_the_standard(frame: bytes, written: str) -> None:
    assert frame == bytes.fromhex(written)


@given(
    st.integers(0, 15),
    st.binary(max_size=300),
    st.booleans(),
    st.integers(0, 7),
    st.sampled_from([b"", MASK]),
    st.binary(max_size=3),
)
def test_a_written_header_is_read_back(
    opcode: int, payload: bytes, fin: bool, rsv: int, mask: bytes, spare: bytes
) -> None:
    frame = encode(opcode, payload, fin, rsv, mask)
    header = read_header(frame + spare)
    assert header
    assert (header.opcode, header.fin, header.rsv, header.mask) == (opcode, fin, rsv, mask)
    assert header.length == len(payload)
    assert apply_mask(frame[header.size :], header.mask) == payload
    assert all(read_header(frame[:cut]) is None for cut in range(header.size))


def test_a_close_frame_without_a_code() -> None:
    assert close_code(b"") == close_code(b"\3") == NO_CODE
    assert close_code(close_payload(1000, b"bye")) == 1000
    assert encode(CLOSE, close_payload(1000), mask=b"") == b"\x88\x02\x03\xe8"
