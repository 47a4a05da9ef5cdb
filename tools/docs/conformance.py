"""The DICOM Conformance Statement: ``python -m tools.docs.conformance > docs/conformance.md``.

Sections follow PS3.2. SOP classes, transfer syntaxes, statuses, defaults and error codes are those of the
code; the attributes of created objects are found by writing such objects (`created_objects`).
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from pydicom.charset import python_encoding
from pydicom.uid import (
    UID,
    ComprehensiveSRStorage,
    EncapsulatedPDFStorage,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RLELossless,
    RTStructureSetStorage,
    SegmentationStorage,
)

from orgseg_node.dicom.objects.seg import LABEL_MAP_STORAGE
from orgseg_node.dicom.objects.storage_commitment import PUSH_MODEL
from orgseg_node.dicom.objects.uids import IMPLEMENTATION_UID
from orgseg_node.dicom.tps.tps import PROFILES
from orgseg_node.errors import InputError, OrgsegError, OutputError
from orgseg_node.node.config.node_config import DeliverySection, NodeSection, ReceiverSection
from orgseg_node.node.config.stow import StowSection
from orgseg_node.node.dimse import association, c_store, commitment_scu
from orgseg_node.node.dimse.further_classes import PRIVATE_CLASSES
from orgseg_node.node.dimse.presentation_contexts import offered_syntaxes
from tools.docs import conformance_services as services
from tools.docs import conformance_text as sentences
from tools.docs.created_objects import Attribute, created_objects

_VERIFICATION: Final = UID("1.2.840.10008.1.1")
_CHARACTER_SET: Final = r"ISO_IR \d+|ISO 2022 IR \d+|GB18030|GBK"  # PS3.3 C.12.1.1.2
_NAMES: Final = {LABEL_MAP_STORAGE: "Label Map Segmentation Storage"}  # younger than some dictionaries
_CREATED: Final = (  # SOP class, transfer syntax it is written in, kind in `created_objects`
    (RTStructureSetStorage, ImplicitVRLittleEndian, "RT Structure Set"),
    (SegmentationStorage, ExplicitVRLittleEndian, "Segmentation"),
    (UID(LABEL_MAP_STORAGE), RLELossless, "Label Map Segmentation"),
    (ComprehensiveSRStorage, ExplicitVRLittleEndian, "Comprehensive SR"),
    (EncapsulatedPDFStorage, ExplicitVRLittleEndian, "Encapsulated PDF"),
)

_CONTENTS: Final = "(contents)"


def conformance() -> str:
    """The whole statement as Markdown."""
    sections = [
        ("1 Overview", _overview()),
        ("2 Table of contents", _CONTENTS),
        ("3 Introduction", sentences.INTRODUCTION),
        ("4 Networking", _networking()),
        ("5 Media interchange", sentences.MEDIA),
        ("6 Support of character sets", _character_sets()),
        ("7 Security", sentences.SECURITY),
        ("8 Annexes", _annexes()),
    ]
    text = "\n".join(f"## {title}\n\n{body.strip()}\n" for title, body in sections)
    headings = re.findall(r"^##(#*) (.+)$", text, flags=re.MULTILINE)
    contents = "\n".join(f"{'  ' * len(depth)}* {title}" for depth, title in headings)
    return sentences.HEAD + text.replace(_CONTENTS, contents, 1)


def _overview() -> str:
    rows = [[_name(_VERIFICATION), "yes", "yes"]]
    rows += [[_name(uid), "yes", "yes"] for uid in c_store.STORAGE_CLASSES]
    rows += [[f"{len(c_store.OTHER_CLASSES)} other storage classes (section 8.6)", "no", "yes, set aside"]]
    rows += [[_name(uid), "yes", "no"] for uid, _, _ in _CREATED]
    rows += [[_name(uid), "yes", "no"] for uid in (association.FIND, association.MOVE, association.GET)]
    rows += [[_name(PUSH_MODEL), "yes", "no"]]
    return f"{sentences.OVERVIEW}\n\n{_table(['SOP class', 'user (SCU)', 'provider (SCP)'], rows)}"


def _networking() -> str:
    parts = [
        ("4.1 Implementation model", sentences.FLOW),
        ("4.2 Application entity", _association_policies()),
        ("4.2.1 Association acceptance", _acceptance()),
        ("4.2.2 Association initiation", _initiation()),
        ("4.2.3 DICOMweb", _dicomweb()),
        ("4.3 Network interfaces", "TCP/IP, IPv4 and IPv6, of the operating system."),
        ("4.4 Configuration", _configuration()),
    ]
    return "\n".join(f"### {title}\n\n{body.strip()}\n" for title, body in parts)


def _association_policies() -> str:
    rows = [
        ["Application context", "1.2.840.10008.3.1.1.1"],
        ["Associations accepted at once", f"{ReceiverSection().max_associations} (configurable)"],
        ["Associations initiated at once", "two for each destination (configurable)"],
        ["Asynchronous operations", "not supported"],
        ["Maximum PDU received", f"{ReceiverSection().max_pdu} bytes (configurable)"],
        [
            "Idle time after which an association is ended",
            f"{ReceiverSection().idle_timeout_s:g} s (configurable)",
        ],
        ["Implementation Class UID in associations", "that of pynetdicom, with its version name"],
        ["Implementation Class UID in stored and created files", f"`{IMPLEMENTATION_UID}`, `ORGSEG_NODE`"],
    ]
    return _table(["policy", "value"], rows)


def _acceptance() -> str:
    contexts = [
        [_name(_VERIFICATION), f"`{_VERIFICATION}`", _syntax(ImplicitVRLittleEndian) + " and others", "SCP"]
    ]
    contexts += [[_name(uid), f"`{uid}`", "table below", "SCP"] for uid in c_store.STORAGE_CLASSES]
    contexts += [["each storage class of section 8.6", "there", "those of section 8.6", "SCP, set aside"]]
    contexts += [[_name(PUSH_MODEL), f"`{PUSH_MODEL}`", _commitment_syntaxes(), "SCU, to receive reports"]]
    syntaxes = [[_syntax(uid), f"`{uid}`"] for uid in c_store.SYNTAXES]
    statuses = [
        [
            f"0x{c_store.SUCCESS:04X}",
            "Success",
            "durably stored; or already stored with the same content",
        ],
        [
            f"0x{c_store.OUT_OF_RESOURCES:04X}",
            "Refused: out of resources",
            "disk full, or any doubt; send again",
        ],
        [
            f"0x{c_store.NOT_MATCHING:04X}",
            "Error: dataset does not match SOP class",
            "UIDs differ from those announced",
        ],
        [
            f"0x{c_store.CANNOT_UNDERSTAND:04X}",
            "Error: cannot understand",
            "unreadable, or without its UIDs",
        ],
    ]
    rejections = [
        ["permanent, service user, 3", "calling AE title not configured, or from another network"],
        [
            "permanent, service user, 7",
            "called AE title is not one of the node, or not for this peer",
        ],
        [
            "transient, service provider (presentation), 2",
            "as many are open as allowed, in total or for this peer",
        ],
    ]
    return "\n".join(
        [
            _table(["SOP class", "UID", "transfer syntaxes", "role"], contexts),
            "Of several transfer syntaxes in one presentation context, the first of these is accepted:\n",
            _table(["transfer syntax", "UID"], syntaxes),
            sentences.LOSSY,
            sentences.STORED,
            _table(["status", "meaning", "when"], statuses),
            "Rejected associations:\n",
            _table(["result, source, reason", "when"], rejections),
            services.NO_COMMITMENT_PROVIDER.replace(
                "{status}", f"0x{commitment_scu.UNRECOGNISED_OPERATION:04X}"
            ),
        ]
    )


def _commitment_syntaxes() -> str:
    return ", ".join(map(_syntax, commitment_scu.SYNTAXES))


def _dicomweb() -> str:
    return "\n".join(
        [
            services.STOW_IN.replace("{path}", StowSection().path),
            _table(["status", "when"], services.stow_statuses()),
            _table(["failure reason", "when"], services.stow_reasons()),
            services.STOW_OUT,
        ]
    )


def _initiation() -> str:
    contexts = [[_name(_VERIFICATION), f"`{_VERIFICATION}`", _syntax(ImplicitVRLittleEndian), "SCU"]]
    contexts += [
        [_name(uid), f"`{uid}`", ", ".join(map(_syntax, offered_syntaxes(UID(own)))), "SCU"]
        for uid, own, _ in _CREATED
    ]
    contexts += [
        [_name(uid), f"`{uid}`", "its own; if that is compressed without loss, also uncompressed", "SCU"]
        for uid in c_store.STORAGE_CLASSES
    ]
    contexts += [[_name(PUSH_MODEL), f"`{PUSH_MODEL}`", _commitment_syntaxes(), "SCU"]]
    statuses = [
        ["0x0000", "stored"],
        ["0xB000 to 0xBFFF, 0x0001, 0x0107, 0x0116", "stored; the warning is kept"],
        ["all others, no answer, broken association", "not stored; tried again"],
    ]
    delivery = DeliverySection()
    tries = (
        f"The first retry is after {delivery.retry_first_s:g} s, each later one after twice the time, at "
        f"most {delivery.retry_longest_s:g} s; after {delivery.give_up_after_h:g} h the delivery is shown as "
        "failed (configurable)."
    )
    return "\n".join(
        [
            sentences.SENT,
            _table(["SOP class", "UID", "transfer syntaxes", "role"], contexts),
            "C-STORE responses of the destination:\n",
            _table(["status", "meaning for the node"], statuses),
            f"{tries}\n",
            services.COMMITMENT_USER,
        ]
    )


def _configuration() -> str:
    node = NodeSection()
    rows = [
        ["AE title", f"`{node.ae_title}`", "`[node] ae_title`"],
        ["Port", str(node.port), "`[node] port`"],
        ["Port with TLS; certificate, key, trusted certificates", "none", "`[tls]`"],
        ["Further AE titles it answers to", "none", "`[node] also_called`"],
        ["AE titles and networks that may send, and what", "none", "`[[peers]]`"],
        ["Rules for what is contoured, and how", "none", "`[rules]`"],
        ["Destinations: AE title, host, port, objects, planning system", "none", "`[destinations.NAME]`"],
        ["Destinations by DICOMweb: URL, token or password", "none", "`[destinations.NAME]`"],
        ["Storage commitment asked of a destination", "no", "`commitment`"],
        ["Tokens of senders by DICOMweb", "none", "`[stow]`"],
        ["Profiles of planning systems", ", ".join(f"`{name}`" for name in PROFILES), "`tps`"],
    ]
    return _table(["what", "default", "in `node.toml`"], rows)


def _character_sets() -> str:
    named = sorted(name for name in python_encoding if re.fullmatch(_CHARACTER_SET, name))
    sets = ", ".join(f"`{name}`" for name in named)
    return f"""\
Received images may use the default repertoire and {sets}.

Created objects keep the Specific Character Set of the CT and its encoded text. What the node adds is ASCII,
which each of these holds."""


def _annexes() -> str:
    objects = created_objects()
    parts = [f"### 8.1 Created objects\n\n{sentences.PRESENCE}\n"]
    for number, (uid, _, kind) in enumerate(_CREATED, start=1):
        parts.append(f"#### 8.1.{number} {_name(uid)}\n\n{_attributes(objects[kind])}")
    parts.append(f"#### 8.1.{len(_CREATED) + 1} Profiles of planning systems\n\n{_profiles()}")
    parts += [
        f"### 8.2 Attributes coerced and mapped\n\n{sentences.COERCION}\n",
        f"### 8.3 Private attributes and SOP classes\n\n{_private(objects.values())}\n",
        f"### 8.4 Coded terminology\n\n{sentences.TERMS}",
        f"### 8.5 Error codes\n\nWhy a series is refused or held:\n\n{_errors(InputError)}",
        f"Why a result is not sent:\n\n{_errors(OutputError)}",
        f"### 8.6 Other storage classes\n\n{_set_aside()}",
    ]
    return "\n".join(parts)


def _set_aside() -> str:
    classes = [[_name(uid), f"`{uid}`"] for uid in sorted(c_store.OTHER_CLASSES, key=_name)]
    syntaxes = ", ".join(_syntax(uid) for uid in dict.fromkeys(map(str, c_store.OTHER_SYNTAXES)))
    return f"{sentences.SET_ASIDE}\nTransfer syntaxes: {syntaxes}.\n\n{_table(['SOP class', 'UID'], classes)}"


def _profiles() -> str:
    rows = [
        ["characters in a ROI name", *(str(one.max_name) for one in PROFILES.values())],
        ["holes", *(str(one.holes) for one in PROFILES.values())],
        ["decimals of a coordinate in mm, axial", *(str(one.decimals) for one in PROFILES.values())],
        ["points of a contour, at most", *(str(one.max_points) for one in PROFILES.values())],
        ["bytes of a contour, at most", *(str(one.max_contour_bytes) for one in PROFILES.values())],
        ["organs without contours", *(str(one.empty_rois) for one in PROFILES.values())],
        ["refers to the segmentation", *(_yes(one.definition_source) for one in PROFILES.values())],
        ["identifies the algorithm", *(_yes(one.algorithm) for one in PROFILES.values())],
        ["codes the organs", *(_yes(one.codes) for one in PROFILES.values())],
        ["Source Series, ROI Creator", *(_yes(one.source_series) for one in PROFILES.values())],
    ]
    return _table(["", *PROFILES], rows)


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def _attributes(attributes: Sequence[Attribute]) -> str:
    rows = []
    for each in attributes:
        depth = ">" * (len(each.path) - 1)
        rows.append([f"{depth}{each.name}", each.tag, each.vr, each.presence, each.source])
    return _table(["attribute", "tag", "VR", "presence", "source"], rows)


def _private(objects: Iterable[Sequence[Attribute]]) -> str:
    private = sorted({each.tag for one in objects for each in one if int(each.tag[1:5], 16) % 2})
    return f"Private attributes: {', '.join(private)}." if private else "None."


def _errors(base: type[OrgsegError]) -> str:
    rows = []
    for error in sorted(_family(base), key=lambda one: one.code):
        sentence = inspect.cleandoc(error.__doc__ or "").splitlines()[0]
        rows.append([f"`{error.code}`", sentence, error.next_step])
    return _table(["code", "meaning", "next step"], rows)


def _family(base: type[OrgsegError]) -> Iterator[type[OrgsegError]]:
    for one in base.__subclasses__():
        yield one
        yield from _family(one)


def _name(uid: UID | str) -> str:
    return _NAMES.get(str(uid)) or PRIVATE_CLASSES.get(str(uid)) or UID(uid).name


def _syntax(uid: UID | str) -> str:
    return UID(uid).name


def _table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(headings) + " |", "|" + "---|" * len(headings)]
    lines += ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.stdout.write(conformance())
