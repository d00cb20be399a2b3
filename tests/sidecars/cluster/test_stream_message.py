"""Tests of publications: one node encodes them, and every node decodes them."""

import contextlib

import pytest
from hypothesis import given
from hypothesis.strategies import binary, builds, integers, lists, sampled_from

from chatroom.log.origin import Origin
from chatroom.sidecars.cluster.stream_message import (
    FORMAT,
    Publication,
    PublicationError,
    Run,
    foreign,
)

WORDS = integers(0, 2**64 - 1)
ORIGINS = [Origin(address, 11).pack() for address in ("192.0.2.1", "2001:db8::1", "room")]
RUNS = builds(Run, WORDS, sampled_from(ORIGINS), integers(1, 2**32 - 1), binary(min_size=1))
PUBLICATIONS = builds(Publication, WORDS, WORDS, WORDS, lists(RUNS, max_size=5))


@given(PUBLICATIONS)
def test_a_publication_is_decoded_as_it_was(publication: Publication) -> None:
    assert Publication.decode(publication.encode()) == publication


@given(PUBLICATIONS, integers(1, 200), binary(min_size=1, max_size=9))
def test_a_cut_or_lengthened_publication_is_an_error(
    publication: Publication, cut: int, more: bytes
) -> None:
    data = publication.encode()
    for wrong in (data[:-cut], data + more):
        with pytest.raises(PublicationError):
            Publication.decode(wrong)


@given(binary(max_size=300))
def test_any_other_bytes_are_an_error_and_no_other_exception(data: bytes) -> None:
    with contextlib.suppress(PublicationError):
        assert Publication.decode(data).encode() == data


def test_another_format_is_named() -> None:
    data = Publication(1, 2, 3, []).encode()
    other = (FORMAT + 1).to_bytes(2, "little") + data[2:]
    with pytest.raises(PublicationError, match=f"format {FORMAT + 1}, not {FORMAT}"):
        Publication.decode(other)


def test_only_this_node_s_senders_keep_their_ids() -> None:
    """The reach of each entry is the sequence number."""
    text = b"<192.0.2.1>a\n<192.0.2.1>b\n"
    publication = Publication(7, 9, 5, [Run(3, ORIGINS[0], 2, text)])
    ours, theirs = publication.batch(7, 42), publication.batch(8, 42)
    assert ours.runs == [(len(text), 3, 42, 2, ORIGINS[0])]
    assert theirs.runs == [(len(text), foreign(7, 3), 42, 2, ORIGINS[0])]
    assert ours.text() == theirs.text() == text


@given(WORDS, WORDS)
def test_a_foreign_id_is_above_all_members_ids_and_exact_in_json(node: int, sender: int) -> None:
    assert 2**52 <= foreign(node, sender) < 2**53
