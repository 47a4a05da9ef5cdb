"""A multipart body is read correctly wherever it is split, and refused if it is invalid."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orgseg_node.dicom.reading.part10 import EncodedFile
from orgseg_node.errors import NotMultipart, TooLarge
from orgseg_node.web.multipart import Part, PartReader, boundary_of

BOUNDARY = "b-1"
# what looks like a boundary, or nearly so, is where such parsers fail
PIECES = st.sampled_from([b"\r\n", b"--", b"b-1", b"\r\n--b-", b"\r\n--b-2", b"-", b"\r", b"x", b"\x00" * 50])
CONTENT = st.lists(PIECES | st.binary(max_size=40), max_size=8).map(b"".join)


def body(contents: list[bytes]) -> bytes:
    parts = [b"--b-1\r\nContent-Type: Application/DICOM; x=y\r\n\r\n" + one + b"\r\n" for one in contents]
    return b"".join(parts) + b"--b-1--\r\n"


def read(data: bytes, cuts: list[int], limit: int = 1000) -> list[Part]:
    reader = PartReader(BOUNDARY, limit, Path())
    found, places = [], sorted({min(cut, len(data)) for cut in cuts} | {0, len(data)})
    for start, end in pairwise(places):
        found += reader.feed(data[start:end])
    reader.finish()
    return found


@given(st.lists(CONTENT, min_size=1, max_size=4), st.lists(st.integers(0, 600), max_size=12))
def test_parts_are_read_correctly_wherever_the_body_is_split(contents: list[bytes], cuts: list[int]) -> None:
    honest = [one for one in contents if b"\r\n--b-1" not in b"\r\n" + one + b"\r\n"]
    if honest:
        parts = read(body(honest), cuts)
        assert [part.content.encoded for part in parts] == honest
        assert {part.media_type for part in parts} == {"application/dicom"}


@given(st.integers(1, 60), st.lists(st.integers(0, 200), max_size=4))
def test_a_body_without_its_last_boundary_is_incomplete(missing: int, cuts: list[int]) -> None:
    data = body([b"one", b"two"])
    with pytest.raises(NotMultipart):
        read(data[: -min(missing + 3, len(data))], cuts)


@given(st.binary(max_size=200))
def test_any_body_gives_parts_or_is_refused(data: bytes) -> None:
    reader = PartReader(BOUNDARY, 1000, Path())
    try:
        reader.feed(data)
        reader.finish()
    except NotMultipart:
        pass


def test_headers_and_parts_have_limits() -> None:
    with pytest.raises(NotMultipart):
        read(b"--b-1\r\nX: " + b"a" * 100_000 + b"\r\n\r\n\r\n--b-1--\r\n", [])
    with pytest.raises(NotMultipart):
        read(b"--b-1\r\n" + b"X: a\r\n" * 50 + b"\r\n\r\n--b-1--\r\n", [])
    with pytest.raises(TooLarge):
        read(body([b"x" * 1001]), [500])
    assert len(read(body([b"x" * 1000]), [500])) == 1


@pytest.mark.parametrize(
    ("content_type", "boundary"),
    [
        ('multipart/related; type="application/dicom"; boundary=abc', "abc"),
        ('Multipart/Related; boundary="a b"; type=application/DICOM', "a b"),
        ("multipart/related; boundary=abc", "abc"),
        ('multipart/related; type="application/dicom+json"; boundary=abc', None),
        ("multipart/form-data; boundary=abc", None),
        ("multipart/related; type=application/dicom", None),
        ("application/dicom", None),
        ("", None),
    ],
)
def test_a_boundary_is_taken_from_the_right_kind_of_body_only(
    content_type: str, boundary: str | None
) -> None:
    assert boundary_of(content_type, "application/dicom") == boundary


def test_a_boundary_that_is_too_long_or_not_latin_is_refused() -> None:
    for boundary in ("a" * 10_000, "\u738b"):
        with pytest.raises(NotMultipart):
            PartReader(boundary, 10, Path())


def test_a_large_part_is_written_to_a_file_while_it_arrives(tmp_path: Path) -> None:
    content = bytes(3_000_000)
    reader = PartReader(BOUNDARY, 10_000_000, tmp_path)
    (part,) = reader.feed(body([content]))
    encoded = part.content.encoded
    assert isinstance(encoded, EncodedFile)
    assert encoded.path.read_bytes() == content
    part.content.discard()
    assert not list(tmp_path.iterdir())
