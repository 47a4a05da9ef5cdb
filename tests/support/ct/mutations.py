"""Damaged DICOM files, the same for the same seed: what a broken disk, a bad exporter or an attacker sends.

A mutant is made from one honest file by one of the `KINDS`. Some work on bytes (flips, cuts, lengths), some
on the dataset (missing tags, absurd numbers), some on the compressed stream alone, because damage elsewhere
would keep it from ever reaching a decoder.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from io import BytesIO
from random import Random

from pydicom import dcmread, dcmwrite
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset, FileDataset
from pydicom.sequence import Sequence
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from tests.support.ct.dicom_bytes import (
    PIXELS,
    VRS,
    DoesNotFit,
    is_vr,
    length_fields,
    pixels_at,
    places_in,
    stream_at,
)

_LENGTHS = (0, 1, 0x7FFF, 0xFFFE, 0xFFFF, 0x10000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF)
_SYNTAXES = (
    ImplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    DeflatedExplicitVRLittleEndian,
    RLELossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEG2000Lossless,
    "1.2.840.10008.1.2.4.90 ",
    "1.2.840.10008.1.2.4.201",
    "1.2.840.10008.1.2.4.50",
    "1.2.840.113619.5.2",
    "",
    "0",
    "x" * 64,
)
_SIDES = ("Rows", "Columns")
_NUMBERS = (
    *_SIDES,
    *("BitsAllocated", "BitsStored", "HighBit", "SamplesPerPixel", "PixelRepresentation"),
    *("PixelPaddingValue", "PlanarConfiguration"),
)
_WORDS = (0, 1, 2, 7, 8, 12, 15, 17, 32, 64, 255, 4096, 32767, 32768, 65500, 65534, 65535)
_TEXTS = ("", " ", "nan", "inf", "-1e999", "1e308", "abc", "0", "-0", "1\\2", "\\" * 40, "9" * 400)
_TEXTS += ("\0", "\x1b$B\x1b(B", "\u00e9\ud7ff", "../../x", "1.2.3", "0.0.0", "1e-320", "+-1", "1_0")
_CHARACTER_SETS = ("ISO_IR 999", "\\ISO 2022 IR 87", "utf-16", "zlib", "ISO 2022 IR 149\\rot13", "GB18030")

Change = Callable[[bytes, Random], bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutant:
    """One damaged file.

    Attributes
    ----------
    kind : name of the damage, a key of `KINDS`
    data : bytes of the file
    """

    kind: str
    data: bytes


def mutate(data: bytes, random: Random, kinds: Mapping[str, Change] | None = None) -> Mutant:
    """Damage one honest file in one of the ways that fit it."""
    kinds = kinds or KINDS
    while True:
        kind = random.choice(list(kinds))
        try:
            damaged = kinds[kind](data, random)
        except DoesNotFit:
            continue
        return Mutant(kind=kind, data=damaged)


# ---------------------------------------------------------------------- bytes


def _flip(data: bytes, random: Random, low: int, high: int) -> bytes:
    changed = bytearray(data)
    for _ in range(random.choice([1, 1, 2, 4, 16, 64])):
        changed[random.randrange(low, max(low + 1, high))] ^= 1 << random.randrange(8)
    return bytes(changed)


def _flip_anywhere(data: bytes, random: Random) -> bytes:
    return _flip(data, random, 0, len(data))


def _flip_header(data: bytes, random: Random) -> bytes:
    return _flip(data, random, 128, pixels_at(data))


def _truncate(data: bytes, random: Random) -> bytes:
    return data[: random.choice([random.randrange(len(data)), random.randrange(200), len(data) - 1])]


def _cut_out(data: bytes, random: Random) -> bytes:
    start = random.randrange(132, len(data))
    return data[:start] + data[start + random.choice([1, 2, 3, 8, 64, 500]) :]


def _put_in(data: bytes, random: Random) -> bytes:
    start = random.randrange(132, len(data))
    return data[:start] + random.randbytes(random.choice([1, 2, 3, 8, 64, 500])) + data[start:]


def _append(data: bytes, random: Random) -> bytes:
    return data + random.choice([b"\0", b"\0" * 4096, random.randbytes(64), data])


def _noise(data: bytes, random: Random) -> bytes:
    rest = random.choice([0, 1, 50, 3000])
    head = random.choice([b"", b"\0" * 128 + b"DICM", data[:132], data[:400]])
    return head + random.randbytes(rest)


def _absurd_length(data: bytes, random: Random) -> bytes:
    """A length field, of an element or an item, says something impossible."""
    changed = bytearray(data)
    at, is_short = random.choice(length_fields(data))
    value = random.choice(_LENGTHS)
    changed[at : at + (2 if is_short else 4)] = struct.pack(
        "<H" if is_short else "<I", value & (0xFFFF if is_short else 0xFFFFFFFF)
    )
    return bytes(changed)


def _swap_vr(data: bytes, random: Random) -> bytes:
    places = [at for at in range(132, min(len(data), pixels_at(data) + 8)) if is_vr(data, at)]
    if not places:
        raise DoesNotFit
    changed = bytearray(data)
    for at in random.sample(places, min(len(places), random.choice([1, 1, 3]))):
        changed[at : at + 2] = random.choice(VRS)
    return bytes(changed)


def _deep_sequences(data: bytes, random: Random) -> bytes:
    """Sequences in sequences, thousands of floors deep, before the pixel data; some never end."""
    depth = random.choice([30, 300, 3000, 30000])
    at = pixels_at(data)
    if at == len(data):
        raise DoesNotFit
    explicit = is_vr(data, at + 4)
    head = b"\x09\x00\x10\x10" + (b"SQ\0\0" if explicit else b"") + b"\xff\xff\xff\xff"
    opened = (head + b"\xfe\xff\x00\xe0\xff\xff\xff\xff") * depth
    closed = b"\xfe\xff\x0d\xe0\0\0\0\0\xfe\xff\xdd\xe0\0\0\0\0" * depth
    return data[:at] + opened + random.choice([closed, b""]) + data[at:]


# ---------------------------------------------------------------------- dataset


def _edited(data: bytes, edit: Callable[[FileDataset], None]) -> bytes:
    try:
        dataset = dcmread(BytesIO(data))
        edit(dataset)
        out = BytesIO()
        dcmwrite(out, dataset, enforce_file_format=False)
    except DoesNotFit:
        raise
    except Exception:  # noqa: BLE001  # an edit that cannot be written is no mutant
        raise DoesNotFit from None
    return out.getvalue()


def _missing_tags(data: bytes, random: Random) -> bytes:
    def edit(dataset: FileDataset) -> None:
        for place in random.sample(places_in(dataset), random.choice([1, 1, 2, 8])):
            place[0].pop(place[1], None)

    return _edited(data, edit)


def _empty_tags(data: bytes, random: Random) -> bytes:
    def edit(dataset: FileDataset) -> None:
        for holder, tag in random.sample(places_in(dataset), random.choice([1, 1, 2, 8])):
            if tag in holder:
                element = holder[tag]
                element.value = Sequence() if element.VR == "SQ" else None

    return _edited(data, edit)


def _strange_text(data: bytes, random: Random) -> bytes:
    def edit(dataset: FileDataset) -> None:
        kinds = {"CS", "DS", "IS", "LO", "UI", "PN", "SH", "DA"}
        texts = [(holder, tag) for holder, tag in places_in(dataset) if holder[tag].VR in kinds]
        for holder, tag in random.sample(texts, min(len(texts), random.choice([1, 2, 6]))):
            raw = random.choice(_TEXTS)
            holder[tag] = DataElement(tag, holder[tag].VR, raw, already_converted=True)

    return _edited(data, edit)


def _strange_character_set(data: bytes, random: Random) -> bytes:
    def edit(dataset: FileDataset) -> None:
        dataset.add_new("SpecificCharacterSet", "CS", random.choice(_CHARACTER_SETS))
        dataset[0x00100010] = DataElement(0x00100010, "LO", "\x1b$B\x1b(J=\\^", already_converted=True)

    return _edited(data, edit)


def _absurd_numbers(data: bytes, random: Random) -> bytes:
    def edit(dataset: FileDataset) -> None:
        for keyword in random.sample(_NUMBERS, random.choice([1, 1, 2, 4])):
            dataset.add_new(keyword, "US", random.choice(_WORDS))

    return _edited(data, edit)


def _absurd_frames(data: bytes, random: Random) -> bytes:
    def edit(dataset: FileDataset) -> None:
        frames = random.choice([0, 1, 2, 1000, 65536, 2**31 - 1, -1])
        dataset[0x00280008] = DataElement(0x00280008, "IS", str(frames), already_converted=True)

    return _edited(data, edit)


def _other_syntax(data: bytes, random: Random) -> bytes:
    """The file says that it is encoded in a way in which it is not."""
    dataset = dcmread(BytesIO(data), stop_before_pixels=True)
    old = str(dataset.file_meta.TransferSyntaxUID).encode()
    at = data.index(b"\x02\x00\x10\x00UI")
    (length,) = struct.unpack_from("<H", data, at + 6)
    new = random.choice([s for s in _SYNTAXES if s.encode() != old]).encode()
    new += b"\0" * (len(new) % 2)
    return data[: at + 6] + struct.pack("<H", len(new)) + new + data[at + 8 + length :]


def _shuffled_items(data: bytes, random: Random) -> bytes:
    """Items of sequences are lost, doubled or moved: functional groups that do not fit their frames."""

    def edit(dataset: FileDataset) -> None:
        sequences = [h[t].value for h, t in places_in(dataset) if h[t].VR == "SQ" and len(h[t].value)]
        if not sequences:
            raise DoesNotFit
        items = random.choice(sequences)
        match random.randrange(4):
            case 0:
                del items[random.randrange(len(items))]
            case 1:
                items.append(items[random.randrange(len(items))])
            case 2:
                items.clear()
            case _:
                items[random.randrange(len(items))] = Dataset()

    return _edited(data, edit)


def _many_items(data: bytes, random: Random) -> bytes:
    def edit(dataset: FileDataset) -> None:
        item = Dataset()
        item.CodeValue = "1"
        dataset.ProcedureCodeSequence = [item] * random.choice([100, 5000])

    return _edited(data, edit)


def _bomb(data: bytes, random: Random) -> bytes:
    """A deflated dataset of a few kilobytes that grows to hundreds of megabytes when it is opened."""
    dataset = dcmread(BytesIO(data), stop_before_pixels=True)
    if dataset.file_meta.TransferSyntaxUID != DeflatedExplicitVRLittleEndian:
        raise DoesNotFit
    start = 132 + 12 + int(dataset.file_meta.FileMetaInformationGroupLength)
    honest = zlib.decompress(data[start:], -zlib.MAX_WBITS)
    size = random.choice([1, 64, 1024]) * 1_000_000
    pack = zlib.compressobj(wbits=-zlib.MAX_WBITS, level=1)
    at = honest.rindex(PIXELS)
    parts = [pack.compress(honest[:at] + b"\x09\x00\x10\x10OB\0\0" + struct.pack("<I", size))]
    parts += [pack.compress(bytes(1_000_000)) for _ in range(size // 1_000_000)]
    parts += [pack.compress(honest[at:]), pack.flush()]
    return data[:start] + b"".join(parts)


# ---------------------------------------------------------------------- compressed streams


def _stream_flips(data: bytes, random: Random) -> bytes:
    at = stream_at(data)
    return _flip(data, random, at, len(data) - 8)


def _stream_head_flips(data: bytes, random: Random) -> bytes:
    at = stream_at(data)
    return _flip(data, random, at, min(at + 120, len(data) - 8))


def _stream_noise(data: bytes, random: Random) -> bytes:
    at = random.randrange(stream_at(data), len(data) - 8)
    length = min(random.choice([1, 4, 32, 400]), len(data) - 8 - at)
    put = random.choice([random.randbytes(length), b"\xff" * length, bytes(length)])
    return data[:at] + put + data[at + length :]


def _stream_marker(data: bytes, random: Random) -> bytes:
    """Another marker, or another length after one, in a JPEG-like stream; another offset in RLE."""
    start = stream_at(data)
    marks = [at for at in range(start, min(start + 400, len(data) - 12)) if data[at] == 0xFF] or [start]
    at = random.choice(marks)
    changed = bytearray(data)
    match random.randrange(3):
        case 0:
            changed[at + 1] = random.randrange(256)
        case 1:
            changed[at + 2 : at + 4] = struct.pack(">H", random.choice([0, 1, 2, 3, 0x7FFF, 0xFFFF]))
        case _:
            changed[at + 4 : at + 8] = struct.pack(">I", random.choice(_LENGTHS))
    return bytes(changed)


def _stream_of_another_size(data: bytes, random: Random) -> bytes:
    """Header and stream agree on a size that is not that of the stream's data: a decompression bomb."""
    rows, columns = random.choice(
        [(65500, 65500), (65535, 64), (64, 65535), (4096, 4096), (16384, 16384), (1, 1)]
    )

    def edit(dataset: FileDataset) -> None:
        old = struct.pack(">HH", dataset.Rows, dataset.Columns)
        wide = struct.pack(">II", dataset.Columns, dataset.Rows)
        stream = bytes(dataset.PixelData)
        stream = stream.replace(old, struct.pack(">HH", rows, columns), 1)
        stream = stream.replace(wide, struct.pack(">II", columns, rows))
        dataset.PixelData = stream
        dataset.Rows, dataset.Columns = rows, columns

    stream_at(data)
    return _edited(data, edit)


KINDS: Mapping[str, Change] = {
    "flipped bits": _flip_anywhere,
    "flipped bits in the header": _flip_header,
    "truncated": _truncate,
    "bytes lost": _cut_out,
    "bytes put in": _put_in,
    "bytes appended": _append,
    "noise": _noise,
    "absurd length": _absurd_length,
    "another VR": _swap_vr,
    "deep sequences": _deep_sequences,
    "missing tags": _missing_tags,
    "empty tags": _empty_tags,
    "strange text": _strange_text,
    "strange character set": _strange_character_set,
    "absurd numbers": _absurd_numbers,
    "absurd number of frames": _absurd_frames,
    "another transfer syntax": _other_syntax,
    "items lost or doubled": _shuffled_items,
    "many items": _many_items,
    "deflate bomb": _bomb,
    "flipped bits in the stream": _stream_flips,
    "flipped bits in the stream's head": _stream_head_flips,
    "noise in the stream": _stream_noise,
    "another marker in the stream": _stream_marker,
    "a stream of another size": _stream_of_another_size,
}
