"""The README of the commissioning kit: what to import, what to check, and the true volumes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from orgseg_node.dicom.kit.shapes import KIT_STRUCTURES
from orgseg_node.dicom.kit.volumes import Volumes, as_markdown

_HEAD: Final = """\
# What does your planning system do with these structures?

Automatic contours are only as good as their import into the planning system. This folder contains a phantom
CT and the same 14 structures written in several ways. Their true volumes are below. One import shows
whether the system drops small structures, fills holes, bridges gaps, or cuts contours.

The phantom is water in air, 40 slices of 3 mm, 256 x 256 pixels of 1 mm, head first supine; patient
"Kit^Commissioning", ID `ORGSEG-KIT`. It is not a person: import it into a test patient or a research
database, never use it for treatment.
"""

_STEPS: Final = """\
## Steps

1. Import the folder `CT/` and all `RTSTRUCT_*.dcm`. Write down every message the system shows.
2. For each structure set, write down for each structure the volume that the system shows, and whether the
   structure is there at all. Copy the table below or use `volumes.csv`.
3. Compare with the true volume. As a rule of thumb, a difference of 1 % or one voxel (0.003 ml) is due to the
   system's rasterisation. A value of one of the columns "if ..." shows what the system does instead.
4. Look at each structure on each slice and answer its question in the list below.
5. Export the structure set again and compare: are points removed, names cut, holes lost?
6. Choose the encoding that this system reads correctly: `tps` of the destination in `node.toml`, or the
   profile of the protocol. If it reads none correctly, leave these structures out, or contour them by hand.
7. Repeat after every upgrade of the planning system. Keep this sheet with the date, the version and a
   signature.
"""

_REMARKS: Final = """\
## How volumes are counted

*By voxels*: number of voxels with their centre inside, times 0.003 ml. *By polygons*: area of the polygons in
the file without holes, times 3 mm. Both describe the same structure; the polygons are smoothed within their
pixels so that their area equals that of the voxels. In some systems a structure ends at the plane of its last
contour and not half a slice beyond: see "if end slices count half". `Kit_Lone_Voxel` and `Kit_Corner` test
whether a system drops structures that are smaller than its grid.
"""

_HOLES: Final = {
    "keyhole": "holes joined to their outer contour by a line without width (CLOSED_PLANAR)",
    "xor": "holes as separate contours, exclusive or (CLOSEDPLANAR_XOR, unknown to older systems)",
    "nested": "holes as separate contours (CLOSED_PLANAR), which the reader must subtract",
}


def sheet(rows: Sequence[Volumes], profiles: Mapping[str, str]) -> str:
    """The README as Markdown.

    Parameters
    ----------
    rows : the true volumes
    profiles : for each structure set the name of its profile
    """
    files = "\n".join(
        f"* `RTSTRUCT_{name}.dcm`: {_what(name, profile)}" for name, profile in profiles.items()
    )
    questions = "\n".join(f"* `{piece.name}`: {piece.question}" for piece in KIT_STRUCTURES)
    blanks = "\n".join(f"| {row.name} | {row.voxel_ml:.3f} |" + " |" * len(profiles) for row in rows)
    heads = "| structure | true (ml) | " + " | ".join(profiles) + " |\n|---|---:|" + "---|" * len(profiles)
    return "\n".join(
        [
            _HEAD,
            f"## Files\n\n* `CT/`: the images\n{files}\n* `volumes.csv`: the table below\n",
            _STEPS,
            f"## What to look for\n\n{questions}\n",
            f"## True volumes\n\n{as_markdown(rows)}",
            _REMARKS,
            "## Volumes that your system shows (ml)\n",
            f"{heads}\n{blanks}\n",
            "Planning system and version: ____________  Date: ____________  Signature: ____________\n",
        ]
    )


def _what(name: str, profile: str) -> str:
    return _HOLES.get(name) or f"as the node writes for the profile `{profile}`"
