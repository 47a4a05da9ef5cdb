"""The manifest of a model bundle, ``manifest.toml``: validated strictly, written reproducibly.

The manifest contains the SHA-256 of every other file of the bundle, so the hash of the manifest identifies
the whole model. The calibration, which decides how the model may be run, is a part of it: with a new
calibration the hash changes, and with it every job id. It is read without torch.
"""

from __future__ import annotations

import re
import tomllib
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

import tomli_w

from orgseg_node.errors import BundleInvalid
from orgseg_node.inference.bundles.calibration import (
    Calibration,
    calibration_document,
    calibration_problems,
    read_calibration,
)
from orgseg_node.inference.bundles.fields import is_number, is_sha256, is_text, key_problems
from orgseg_node.inference.bundles.tables.guide import Guide, guide_document, guide_problems, read_guide
from orgseg_node.inference.bundles.tables.network import (
    CANONICAL,
    Part,
    Preprocessing,
    is_orientation,
    part_document,
    part_problems,
    preprocessing_document,
    preprocessing_problems,
    read_part,
)

__all__ = [
    "CANONICAL",
    "MANIFEST",
    "SCHEMA",
    "Guide",
    "Manifest",
    "Part",
    "Preprocessing",
    "is_inside",
    "is_orientation",
    "manifest_problems",
    "name_of_path",
    "parse_manifest",
    "render_manifest",
    "text_problems",
]

SCHEMA = 1
MANIFEST = "manifest.toml"

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,63}")
_VERSIONED = re.compile(rf"(?=.{{1,64}}$){_NAME.pattern}@(?!(live|shadow|candidate)$){_NAME.pattern}")
_TEXTS = ("name", "version", "title", "intended_use", "trained_on", "licence", "card")
_TOP = {*_TEXTS, "schema", "mirroring", "tile_step_size", "preprocessing", "parts", "files"}
_OPTIONAL = {"calibration", "guide"}
_PICKLES = (".pth", ".pt", ".pkl", ".pickle", ".bin")
_MAX_ORGANS = 255  # label maps are uint8 and 0 is background


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """The content of ``manifest.toml``.

    Attributes
    ----------
    name, version, title : of the model
    intended_use : one sentence; written into every object that is made with the model
    trained_on : the training data, in one sentence
    licence : of the weights
    card : path of the model card inside the bundle
    preprocessing : preparation of the CT
    mirroring : average over mirrored copies in use
    tile_step_size : step of the sliding window as a fraction of the patch, 0 to 1
    parts : the networks
    files : SHA-256 of every file except the manifest, by path inside the bundle
    calibration : measured agreement of the fast mode with the exact mode; None if it was not measured
    guide : networks that find the organs first, so that the others search only there; None for none
    """

    name: str
    version: str
    title: str
    intended_use: str
    trained_on: str
    licence: str
    card: str = "card.md"
    preprocessing: Preprocessing = field(default_factory=Preprocessing)
    mirroring: bool = False
    tile_step_size: float = 0.5
    parts: tuple[Part, ...]
    files: Mapping[str, str]
    calibration: Calibration | None = None
    guide: Guide | None = None

    @property
    def organs(self) -> tuple[str, ...]:
        """Key of every organ it finds, in the order of the manifest, each once."""
        return tuple(dict.fromkeys(key for part in self.parts for key in part.labels.values()))

    @property
    def priorities(self) -> dict[str, float]:
        """Priority of every organ it finds; 0 if the manifest has none."""
        named = {key: value for part in self.parts for key, value in part.priorities.items()}
        return {key: named.get(key, 0.0) for key in self.organs}


def render_manifest(manifest: Manifest) -> bytes:
    """The manifest as TOML, the same bytes for the same content."""
    document: dict[str, Any] = {"schema": SCHEMA}
    document |= {name: getattr(manifest, name) for name in _TEXTS}
    document |= {"mirroring": manifest.mirroring, "tile_step_size": float(manifest.tile_step_size)}
    document["preprocessing"] = preprocessing_document(manifest.preprocessing)
    document["parts"] = [part_document(part) for part in manifest.parts]
    document["files"] = dict(sorted(manifest.files.items()))
    if manifest.guide is not None:
        document["guide"] = guide_document(manifest.guide)
    if manifest.calibration is not None:
        document["calibration"] = calibration_document(manifest.calibration)
    return tomli_w.dumps(document).encode()


def parse_manifest(content: bytes) -> Manifest:
    """Read a manifest.

    Raises
    ------
    BundleInvalid
        With all problems, if it is not TOML, has another schema, or if a field is missing, unknown or has a
        wrong type or value.
    """
    try:
        document = tomllib.loads(content.decode())
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise BundleInvalid(f"{MANIFEST} cannot be read: {error}") from error
    if document.get("schema") != SCHEMA:
        raise BundleInvalid(
            f"{MANIFEST} is of schema {document.get('schema')!r}; this node reads schema {SCHEMA}."
        )
    problems = manifest_problems(document)
    if problems:
        raise BundleInvalid(
            f"{MANIFEST}: {len(problems)} problem(s)\n" + "\n".join(f"  {p}" for p in problems)
        )
    return Manifest(
        **{name: document[name] for name in _TEXTS},
        mirroring=document["mirroring"],
        tile_step_size=float(document["tile_step_size"]),
        preprocessing=Preprocessing(**document["preprocessing"]),
        parts=tuple(read_part(row) for row in document["parts"]),
        files=document["files"],
        calibration=read_calibration(document["calibration"]) if "calibration" in document else None,
        guide=read_guide(document["guide"]) if "guide" in document else None,
    )


def manifest_problems(document: Mapping[str, Any]) -> list[str]:
    """All problems of a manifest, as sentences."""
    found = key_problems("", document, _TOP, _OPTIONAL) + text_problems(document)
    if not isinstance(document.get("mirroring", False), bool):
        found.append("mirroring must be true or false")
    if not is_number(document.get("tile_step_size", 1)) or not 0 < document.get("tile_step_size", 1) <= 1:
        found.append("tile_step_size must be above 0 and at most 1")
    files = document.get("files", {})
    found += _file_problems(files)
    found += preprocessing_problems(document.get("preprocessing", {}))
    if "calibration" in document:
        found += calibration_problems(document["calibration"])
    if "guide" in document:
        found += guide_problems(document["guide"], files)
    parts = document.get("parts", [])
    if not isinstance(parts, list) or not parts:
        found.append("parts must hold at least one [[parts]]")
        return found
    for number, part in enumerate(parts, start=1):
        found += [f"part {number}: {problem}" for problem in part_problems(part, files)]
    if not found:
        found += _bundle_problems(document)
    return found


def text_problems(document: Mapping[str, Any]) -> list[str]:
    """All problems of the descriptive texts of a bundle, as sentences."""
    found = [
        f"{name} must be text, and not empty"
        for name in _TEXTS
        if name in document and not is_text(document[name])
    ]
    return found + [
        f"{name} {document[name]!r} must be 1 to 64 letters, digits or . _ + -, the first no sign"
        f"{'; a name may be FAMILY@VERSION' if name == 'name' else ''}"
        for name in ("name", "version")
        if is_text(document.get(name)) and not _is_name(document[name], versioned=name == "name")
    ]


def _is_name(text: str, *, versioned: bool) -> bool:
    """Whether a text is a name; one with the version of a family, such as ``head-neck@2``, only if allowed.

    ``head-neck@live`` is no name: it stands for the version that is live.
    """
    return bool(_NAME.fullmatch(text) or (versioned and _VERSIONED.fullmatch(text)))


def name_of_path(name: str) -> str:
    """A name for a bundle from that of a file or folder: letters without accents, ``_`` for other signs."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    return re.sub(r"[^A-Za-z0-9._+-]+", "_", plain).lstrip("._+-")[:64].rstrip("_") or "model"


def is_inside(path: str) -> bool:
    """Whether a path of a manifest is inside the bundle and in its normal form."""
    pure = PurePosixPath(path)
    return (
        not pure.is_absolute()
        and ".." not in pure.parts
        and str(pure) == path
        and "\\" not in path
        and path != "."
    )


def _bundle_problems(document: Mapping[str, Any]) -> list[str]:
    found = []
    if document["card"] not in document["files"]:
        found.append(f"card {document['card']} is not among files")
    guide = document.get("guide", {"parts": []})
    folders = [part["folder"] for part in (*document["parts"], *guide["parts"])]
    found += [
        f"two parts share the folder {folder}" for folder in sorted(set(folders)) if folders.count(folder) > 1
    ]
    organs = {key for part in document["parts"] for key in part["labels"].values()}
    if len(organs) > _MAX_ORGANS:
        found.append(f"{len(organs)} organs are more than the {_MAX_ORGANS} a label map can hold")
    if "calibration" in guide:
        measured = guide["calibration"]["organs"].keys()
        found += [f"guide.calibration.organs.{key} is missing" for key in sorted(organs - measured)]
    if "calibration" in document:
        measured = document["calibration"]["organs"].keys()
        found += [f"calibration.organs.{key} is missing" for key in sorted(organs - measured)]
        found += [
            f"calibration.organs.{key} is not an organ of the bundle" for key in sorted(measured - organs)
        ]
    return found


def _file_problems(files: Any) -> list[str]:
    if not isinstance(files, dict):
        return ["files must be a table of SHA-256 by path"]
    found = [f"file {path!r} is not a path inside the bundle" for path in files if not is_inside(path)]
    found += [
        f"file {path}: pickled files are not allowed in a bundle" for path in files if path.endswith(_PICKLES)
    ]
    found += [f"file {path}: not a SHA-256" for path, value in files.items() if not is_sha256(value)]
    return found
