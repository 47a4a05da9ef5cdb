"""The sheet that comes with the commissioning kit: what to import, what to look at, what is true."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from orgseg_node.dicom.kit.shapes import PIECES
from orgseg_node.dicom.kit.volumes import Volumes, as_markdown

_HEAD: Final = """\
# What does your planning system do with these structures?

Automatic contours are only as good as what the planning system makes of them. This folder holds a phantom
CT and the same 14 structures written in several ways. Their true volumes are below. One import shows
whether the system drops small structures, fills holes, bridges gaps, or cuts outlines.

The phantom is water in air, 40 slices of 3 mm, 256 x 256 pixels of 1 mm, head first supine; patient
"Kit^Commissioning", ID `ORGSEG-KIT`. It is nobody: import it into a test patient or a research database,
never treat on it.
"""

_STEPS: Final = """\
## Steps

1. Import the folder `CT/` and all `RTSTRUCT_*.dcm`. Write down every message the system shows.
2. For each structure set, write down for each structure the volume that the system shows, and whether the
   structure is there at all. Copy the table below or use `volumes.csv`.
3. Compare with the true volume. As a rule of thumb, 1 % or one voxel (0.003 ml) is the system's own
   rasterising. A value of one of the columns "if ..." tells what the system does instead.
4. Look at each structure on each slice with the question of its line in mind.
5. Export the structure set again and compare: points thinned out? names cut? holes still there?
6. Choose for this system the way of writing that it reads truly: `tps` of the destination in `node.toml`,
   or the profile of the protocol. Where none is read truly, leave the structures concerned out, or contour
   them by hand.
7. Repeat after every upgrade of the planning system. Keep this sheet with the date, the version and a
   signature.
"""

_REMARKS: Final = """\
## How volumes are counted

*By voxels*: number of voxels whose centre lies inside, times 0.003 ml. *By polygons*: area of the polygons
in the file, holes taken off, times 3 mm. Both describe the same structure; the polygons are smoothed within
their pixels so that their area stays that of the voxels. Some systems let a structure end at the plane of
its last contour rather than half a slice beyond: see "if end slices count half". Two voxels may count as
nothing: `Kit_Lone_Voxel` and `Kit_Corner` are asked about because some systems drop what is smaller than
their grid.
"""

_HOLES: Final = {
    "keyhole": "holes joined to their outline by a line of no width (CLOSED_PLANAR)",
    "xor": "holes as contours of their own, exclusive or (CLOSEDPLANAR_XOR, unknown to older systems)",
    "nested": "holes as contours of their own (CLOSED_PLANAR), to be subtracted by the reader",
}


def sheet(rows: Sequence[Volumes], profiles: Mapping[str, str]) -> str:
    """The sheet as Markdown.

    Parameters
    ----------
    rows : the true volumes
    profiles : for each structure set the profile it is written for
    """
    files = "\n".join(
        f"* `RTSTRUCT_{name}.dcm`: {_what(name, profile)}" for name, profile in profiles.items()
    )
    questions = "\n".join(f"* `{piece.name}`: {piece.question}" for piece in PIECES)
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
