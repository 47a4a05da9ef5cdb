"""Storage classes that pynetdicom does not know: those of manufacturers, and retired ones of the standard.

A study may contain such objects, and archives send none of it if one class is rejected. They are only set
aside, so nothing but their UIDs has to be known.
"""

from __future__ import annotations

from typing import Final

from pydicom._uid_dict import UID_dictionary
from pynetdicom.service_class import ServiceClass, StorageServiceClass
from pynetdicom.sop_class import register_uid, uid_to_service_class

PRIVATE_CLASSES: Final = {
    "1.2.124.113532.3500.7": "Agfa Basic Attribute Presentation State",
    "1.2.246.352.70.1.70": "Varian RT Plan",
    "1.2.276.0.48.5.1.4.1.1.7": "TomTec Annotation",
    "1.2.392.200036.9116.7.8.1.1.1": "Toshiba US Private Data",
    "1.2.392.200036.9125.1.1.2": "Fuji CR Image",
    "1.2.528.1.1001.5.1.1.1": "GE Collage",
    "1.2.826.0.1.3680043.293.1.0.1": "eRAD Report Text",
    "1.2.826.0.1.3680043.293.1.0.2": "eRAD Report Dictation",
    "1.2.840.113543.6.6.1.3.10001": "Philips HP Live 3D 01",
    "1.2.840.113543.6.6.1.3.10002": "Philips HP Live 3D 02",
    "1.2.840.113619.4.2": "GE MR Image",
    "1.2.840.113619.4.3": "GE CT Image",
    "1.2.840.113619.4.4": "GE Display Image",
    "1.2.840.113619.4.26": "GE 3D Model",
    "1.2.840.113619.4.27": "GE Nuclear Medicine",
    "1.2.840.113619.4.30": "GE PET Raw Data",
    "1.2.840.113619.4.5.249": "GE RT Plan",
    "1.3.6.1.4.1.5962.301.2": "PixelMed Legacy Converted Enhanced MR Image",
    "1.3.6.1.4.1.5962.301.3": "PixelMed Legacy Converted Enhanced PET Image",
    "1.3.6.1.4.1.5962.301.9": "PixelMed Floating Point Image",
    "1.3.12.2.1107.5.9.1": "Siemens CSA Non-Image",
    "1.3.12.2.1107.5.99.3.10": "Siemens CT MR Volume",
    "1.3.12.2.1107.5.99.3.11": "Siemens AX Frame Sets",
    "1.3.46.670589.2.3.1.1": "Philips Specialised XA",
    "1.3.46.670589.2.4.1.1": "Philips CX Image",
    "1.3.46.670589.2.5.1.1": "Philips 3D Presentation State",
    "1.3.46.670589.2.8.1.1": "Philips VRML",
    "1.3.46.670589.2.11.1.1": "Philips Volume Set",
    "1.3.46.670589.5.0.1": "Philips Volume (retired)",
    "1.3.46.670589.5.0.1.1": "Philips Volume",
    "1.3.46.670589.5.0.2": "Philips 3D Object (retired)",
    "1.3.46.670589.5.0.2.1": "Philips 3D Object",
    "1.3.46.670589.5.0.3": "Philips Surface (retired)",
    "1.3.46.670589.5.0.3.1": "Philips Surface",
    "1.3.46.670589.5.0.4": "Philips Composite Object",
    "1.3.46.670589.5.0.7": "Philips MR Cardio Profile",
    "1.3.46.670589.5.0.8": "Philips MR Cardio (retired)",
    "1.3.46.670589.5.0.8.1": "Philips MR Cardio",
    "1.3.46.670589.5.0.9": "Philips CT Synthetic Image",
    "1.3.46.670589.5.0.10": "Philips MR Synthetic Image",
    "1.3.46.670589.5.0.11": "Philips MR Cardio Analysis (retired)",
    "1.3.46.670589.5.0.11.1": "Philips MR Cardio Analysis",
    "1.3.46.670589.5.0.12": "Philips CX Synthetic Image",
    "1.3.46.670589.5.0.13": "Philips Perfusion",
    "1.3.46.670589.5.0.14": "Philips Perfusion Image",
    "1.3.46.670589.7.8.1618510091": "Philips X-Ray MF",
    "1.3.46.670589.7.8.1618510092": "Philips Live Run",
    "1.3.46.670589.7.8.16185100129": "Philips Run",
    "1.3.46.670589.7.8.16185100130": "Philips Reconstruction",
    "1.3.46.670589.11.0.0.12.1": "Philips MR Spectrum",
    "1.3.46.670589.11.0.0.12.2": "Philips MR Series Data",
    "1.3.46.670589.11.0.0.12.3": "Philips MR Color Image",
    "1.3.46.670589.11.0.0.12.4": "Philips MR Examcard",
    "2.16.840.1.113709.1.5.1": "GE PACS Private Information",
    "2.16.840.1.114033.5.1.4.1.1.130": "PMOD Multi-frame Image",
}
"""Storage classes of manufacturers by UID, from their conformance statements."""

_STORAGE_ROOT: Final = "1.2.840.10008.5.1.4.1.1."
_HARDCOPY: Final = ("1.2.840.10008.5.1.1.29", "1.2.840.10008.5.1.1.30")

STANDARD_CLASSES: Final = tuple(
    uid
    for uid, (name, kind, other_industry, _, _) in UID_dictionary.items()
    if kind == "SOP Class"
    and not other_industry
    and (uid in _HARDCOPY or (uid.startswith(_STORAGE_ROOT) and "Storage" in name))
)
"""Storage classes of the standard, also the retired ones."""


def register() -> tuple[str, ...]:
    """Have pynetdicom treat all of them as storage classes; their UIDs."""
    classes = (*STANDARD_CLASSES, *PRIVATE_CLASSES)
    for uid in classes:
        if uid_to_service_class(uid) is ServiceClass:  # it does not know the class
            register_uid(uid, f"StorageClass_{uid.replace('.', '_')}", StorageServiceClass)
    return classes
