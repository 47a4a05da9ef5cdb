"""The sentences of the conformance statement; its tables are made from the code."""

from __future__ import annotations

from typing import Final

HEAD: Final = """\
# DICOM Conformance Statement

Made by `python -m tools.docs.conformance` from what the code accepts, sends and writes; a test checks that
it agrees. Sections follow DICOM PS3.2.

"""

OVERVIEW: Final = """\
orgseg_node contours organs at risk on planning CT. It receives CT images by C-STORE, runs neural networks,
and sends the result by C-STORE: an RT Structure Set and a Segmentation, on request also a structured
report, a PDF, and the CT itself as it was received. All results are automatic and not reviewed, and every
object is marked so. Images and results may also be sent by DICOMweb (STOW-RS). Storage commitment is
supported as a user only.

It is one application entity. It queries and retrieves as a user; it does not print and is no archive."""

INTRODUCTION: Final = """\
For those who connect systems: PACS administrators, medical physicists, service engineers. Conformance to
DICOM does not by itself guarantee that two systems understand each other. Before clinical use, commission the
import of structure sets into the planning system (`orgseg commission tps` makes a phantom for that).

AE application entity, SCP service class provider, SCU service class user, SOP service-object pair, IOD
information object definition, TPS treatment planning system."""

FLOW: Final = """\
* **Receive**: a remote AE opens an association and stores CT images. The status is Success only when the
  image is durably on the disk and recorded in the database; on any doubt it is a failure, so that the sender
  keeps the image. Bytes are stored as received.
* **Contour**: when no image of a series arrived for some time and no association that sent images of it is
  open, the series is complete and becomes a job. Series that cannot be used are held and shown with a reason.
* **Send**: objects of a finished job are read back, compared with the result voxel by voxel, and stored at
  each configured destination. Sending is repeated until the destination has them; objects that it does not
  accept may be sent to another destination instead.
* **Confirm**: destinations may be asked to commit to the objects that they were sent. The node commits to
  nothing that it receives."""

LOSSY: Final = """\
There is none for lossy compression. A series whose images were compressed with loss earlier is refused with
INPUT_LOSSY.
"""

STORED: Final = """\
C-STORE responses. The same pixels, geometry and patient are the same image, whatever the transfer syntax and
whatever an archive has coerced; it is acknowledged and changes nothing. If another image is sent under the
same UID, both are kept and the series in which it came is held.
"""

SENT: Final = """\
The objects of a job for a destination are sent in one association when the job is done, each with its own
response; up to two jobs at once to each destination (configurable). An object refers only to objects that
its destination gets too. Destinations with `CT` among their objects get the images of the CT before them;
images whose lossless compression a destination does not accept are sent uncompressed, under the same UIDs.
`orgseg echo` sends C-ECHO; `orgseg send` stores any DICOM files, with their own SOP classes and transfer
syntaxes.

`orgseg query` and `orgseg pull` ask a configured source by patient, accession number, study, series,
modality or date (C-FIND, study root), and retrieve series into a folder (C-GET; the node is then SCP of the
proposed storage classes in the same association) or to the running node (C-MOVE, or C-GET and C-STORE). A
retrieval needs a patient, accession number, study or series without wildcards.
"""

SET_ASIDE: Final = """\
With `[receiver] other_classes = "set_aside"`, the default, the node is also SCP of these classes, because
archives that send whole studies send nothing of a study if one class is rejected. Their instances are
stored, acknowledged and shown, and deleted after the retention time. None is contoured, forwarded or
changed. With `other_classes = "refuse"` their presentation contexts are rejected. A peer with `sop_classes`
may send only these.
"""

MEDIA: Final = """\
None. `orgseg segment` and `orgseg info` read DICOM files from folders; `orgseg pull --out` writes them."""

TERMS: Final = """\
SNOMED CT, the Foundational Model of Anatomy, UCUM and DICOM; organs and their codes are those of the organ
table (`organs.toml`).
"""

COERCION: Final = """\
Attributes of received images are never changed. Patient and study attributes of created objects are copied
from the first slice of the CT as encoded, with its Specific Character Set. Study or Series Instance UIDs
that are absent, for example after anonymisation, are replaced in created objects by derived ones, with a
warning.
UIDs of created objects derive from the content of the CT and the settings that change the result (models,
method, protocol, storage of the SEG, program version). So the same CT contoured again, also from files on
the command line, gives the same UIDs; so does the same CT in another uncompressed transfer syntax."""

SECURITY: Final = """\
Associations are accepted from configured AE titles, optionally only from given networks; all others are
rejected. An AE title can be bound to a certificate, and limited to some of the node's AE titles and to some
SOP classes; then only their presentation contexts are accepted. The non-downgrading BCP 195 TLS profile
(PS3.15 B.12) is supported in both roles: TLS 1.2 or later, ephemeral keys, authenticated encryption,
certificates on both sides unless configured otherwise; the certificate of a peer that the node calls must
hold its host name. Revocation lists are not read. The port without TLS can be closed. User identity
negotiation is not supported. Logs, notices and file names hold no patient data. There is no
de-identification."""

PRESENCE: Final = """\
Presence: ALWAYS with a value; VNAP value not always present (empty where the CT has none); ANAP attribute
not always present. Source: **CT** copied or computed from the received images; **job** from the job, its
models, its time or the configuration; **result** from the contours, organs or findings; *fixed* the same in
every object. `>` marks the depth in sequences; items of one sequence are described together. Found by
writing objects and comparing them, and so for examples of single-frame CT and the profile `generic`; of a
multi-frame CT each image reference also holds the Referenced Frame Number, and profiles of planning systems
leave out or change what the last table says."""
