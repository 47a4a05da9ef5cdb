"""In which transfer syntaxes an object is offered to a peer, and its decoding where the peer needs it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import pydicom
from pydicom.uid import (
    JPEG2000,
    UID,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)
from pynetdicom.association import Association

from orgseg_node.errors import ClassRefused
from orgseg_node.node.config.destinations import Destination

_UNCOMPRESSED: Final = (ExplicitVRLittleEndian, ImplicitVRLittleEndian)
_DECODABLE: Final = frozenset(
    {JPEGLosslessSV1, JPEGLossless, JPEGLSLossless, JPEG2000Lossless, JPEG2000, RLELossless}
)


def contexts_of(kinds: Sequence[tuple[UID, UID]]) -> list[tuple[UID, list[UID]]]:
    """The presentation contexts for objects of these SOP classes and transfer syntaxes."""
    contexts = [(sop_class, [syntax]) for sop_class, own in kinds for syntax in offered_syntaxes(own)]
    contexts += [
        (sop_class, [syntax]) for sop_class, own in kinds if own in _DECODABLE for syntax in _UNCOMPRESSED
    ]
    return list({(abstract, syntaxes[0]): (abstract, syntaxes) for abstract, syntaxes in contexts}.values())


def offered_syntaxes(syntax: UID) -> list[UID]:
    """Transfer syntaxes proposed for an object: its own; if that is uncompressed, also the other ones."""
    if syntax.is_compressed or not syntax.is_little_endian:
        return [syntax]
    return list(dict.fromkeys([syntax, ImplicitVRLittleEndian, ExplicitVRLittleEndian]))


def decode_for(association: Association, destination: Destination, dataset: pydicom.FileDataset) -> None:
    """Decode the pixels of an object in memory if the peer does not accept their lossless compression.

    Parameters
    ----------
    association : open, with its accepted presentation contexts
    destination : the peer, for the message
    dataset : the object; changed in place, with the same SOP Instance UID

    Raises
    ------
    ClassRefused
        If the pixels cannot be decoded.
    """
    syntax = dataset.file_meta.TransferSyntaxUID
    accepted = {
        one.transfer_syntax[0]
        for one in association.accepted_contexts
        if one.abstract_syntax == dataset.SOPClassUID
    }
    if syntax in accepted or syntax not in _DECODABLE:
        return
    try:
        dataset.decompress(generate_instance_uid=False)
    except Exception as error:  # damaged pixels make the decoders raise any exception
        detail = f"does not accept {syntax.name}, and the pixels cannot be decoded ({type(error).__name__})"
        raise ClassRefused(f"{destination.description} {detail}.") from error
