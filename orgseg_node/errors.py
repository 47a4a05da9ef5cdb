"""Every error the node can raise, in one tree.

::

    OrgsegError
    ├── InputError              what was sent or given cannot be used
    │   ├── NotDicom  TruncatedFile  WrongModality  NoPixelData  NotImages
    │   ├── NoSeries  SeveralSeries  SeveralParts  SeveralPatients  MissingAttribute  InvalidAttribute
    │   ├── TooFewSlices  MissingSlices  DuplicateSlices  IrregularSpacing
    │   ├── NotMatching
    │   ├── TiltedGantry  SidewaysDrift  MixedGeometry  NotAxial  MultiframeImage
    │   ├── UnsupportedSyntax  LossyCompression  UnsupportedPixels
    │   └── UndecodablePixels  HuOutOfRange  TooLarge
    ├── BodyNotFound            no patient in the picture
    ├── BundleError             the model bundle
    │   ├── UnknownBundle  BundleInvalid  BundleHashMismatch
    │   ├── ModelNotImportable  OrganUnknown  BundleExists
    │   ├── NotStreamable  NotCalibrated
    │   └── InferenceFailed  OutOfMemory (retryable)
    ├── OutputError             the written objects
    │   └── ProofFailed  NothingFound  ObjectInvalid
    ├── NetworkError            DICOM peers (retryable)
    │   ├── Unreachable  AssociationRejected  StoreRefused  UnknownDestination
    │   ├── TlsFailed  PeerCertificateRefused  OwnCertificateRefused
    │   └── UnknownSource  KeyUnusable  QueryRefused  NothingMatches  PullTooWide  PullIncomplete
    ├── StorageError            disk and database
    │   └── DiskFull (retryable)  NotDurable (retryable)  IllegalTransition  UnknownJob
    ├── JobError                a job in the running node
    │   └── WorkerDied (retryable)  TimeLimit  JobStopped
    ├── ConfigError             node.toml, organs.toml
    └── EnvironmentFault        what the machine lacks
        └── PortTaken  ToolMissing  FastModeMissing  NodeRunning

The first line of a class's docstring is the sentence an operator reads; `next_step` says what to do.
No message ever carries a patient's name, ID or birth date.
"""

from __future__ import annotations

from typing import ClassVar


class OrgsegError(Exception):
    """Something in the node went wrong."""

    code: ClassVar[str] = "ORGSEG"
    retryable: ClassVar[bool] = False
    exit_status: ClassVar[int] = 1
    next_step: ClassVar[str] = "Send the log and this code to whoever maintains the node."

    def __init__(self, detail: str = "") -> None:
        self.detail = detail
        super().__init__(detail)

    @property
    def sentence(self) -> str:
        """The operator's sentence, with the detail of this one case."""
        first = (type(self).__doc__ or "").strip().splitlines()[0]
        return f"{first} {self.detail}".strip()

    def __str__(self) -> str:
        return f"[{self.code}] {self.sentence}"


class InputError(OrgsegError):
    """The input cannot be used."""

    code = "INPUT"
    next_step = "Run 'orgseg info' on the folder to see each file and why it is refused."


class NotDicom(InputError):
    """A file is not DICOM."""

    code = "INPUT_NOT_DICOM"
    next_step = "Remove the file, or export the series again as DICOM part 10 files."


class TruncatedFile(InputError):
    """A file ends before its data does."""

    code = "INPUT_TRUNCATED"
    next_step = "Export or send the series again; the copy is incomplete."


class WrongModality(InputError):
    """The images are not CT."""

    code = "INPUT_WRONG_MODALITY"
    next_step = "Send a CT series; other modalities are not contoured."


class NoPixelData(InputError):
    """An image has no pixel data."""

    code = "INPUT_NO_PIXELS"
    next_step = "Export the series again with its pixel data."


class NotImages(InputError):
    """The files hold no axial CT images, only localizers, captures or other objects."""

    code = "INPUT_NO_IMAGES"
    next_step = "Send the axial CT series itself."


class NoSeries(InputError):
    """There are no DICOM files here."""

    code = "INPUT_EMPTY"
    next_step = "Check the path; it must be a folder with the DICOM files of one CT series."


class SeveralSeries(InputError):
    """There is more than one CT series here."""

    code = "INPUT_SEVERAL_SERIES"
    next_step = "Choose one with --series UID, or put each series in a folder of its own."


class SeveralParts(InputError):
    """The series holds several volumes, such as the phases of a 4DCT."""

    code = "INPUT_SEVERAL_PARTS"
    next_step = "Choose one part with --part, or send one phase or reconstruction as a series of its own."


class SeveralPatients(InputError):
    """There are images of more than one patient here."""

    code = "INPUT_SEVERAL_PATIENTS"
    next_step = "Separate the patients before anything else; nothing was processed."


class MissingAttribute(InputError):
    """A DICOM attribute that geometry or identity rests on is missing."""

    code = "INPUT_MISSING_ATTRIBUTE"
    next_step = "Export the series from its original source; it is never guessed."


class InvalidAttribute(InputError):
    """A DICOM attribute that geometry or identity rests on cannot be right."""

    code = "INPUT_INVALID_ATTRIBUTE"
    next_step = "Export the series from its original source; it is never repaired by guessing."


class TooFewSlices(InputError):
    """The series has too few slices to be a volume."""

    code = "INPUT_TOO_FEW_SLICES"
    next_step = "Send the complete series; at least 3 slices are needed."


class MissingSlices(InputError):
    """Slices are missing inside the series."""

    code = "INPUT_MISSING_SLICES"
    next_step = "Send the missing slices, or the complete series again."


class DuplicateSlices(InputError):
    """Different images lie at the same position, and nothing tells which belong together."""

    code = "INPUT_DUPLICATE_SLICES"
    next_step = "Send one phase or reconstruction only; slices are never averaged or dropped."


class IrregularSpacing(InputError):
    """A gap between slices is so wide that the anatomy in it would be guesswork."""

    code = "INPUT_IRREGULAR_SPACING"
    next_step = "Send the slices in between, or the parts on both sides of the gap as series of their own."


class TiltedGantry(InputError):
    """The slices are shifted against each other more than a tilted gantry shifts them."""

    code = "INPUT_GANTRY_TILT"
    next_step = "Acquire or reconstruct without gantry tilt, and check the image positions at the source."


class SidewaysDrift(InputError):
    """Slices are shifted sideways in a way that no gantry tilt explains."""

    code = "INPUT_DRIFT"
    next_step = "Export the series from its original source; its positions contradict each other."


class MixedGeometry(InputError):
    """Slices of one series differ in orientation, size, spacing or frame of reference."""

    code = "INPUT_MIXED_GEOMETRY"
    next_step = "Send the axial reconstruction alone; scouts and reformats belong in other series."


class NotAxial(InputError):
    """The slices are not axial."""

    code = "INPUT_NOT_AXIAL"
    next_step = "Send the axial series; planning systems misread contours on other planes."


class MultiframeImage(InputError):
    """An image holds several frames and is not stored as Enhanced CT, so their places are unknown."""

    code = "INPUT_MULTIFRAME"
    next_step = "Export the series as single-frame CT images or as Enhanced CT."


class UnsupportedSyntax(InputError):
    """The transfer syntax of an image is not supported."""

    code = "INPUT_UNSUPPORTED_SYNTAX"
    next_step = "Let the sender use an uncompressed or lossless transfer syntax."


class LossyCompression(InputError):
    """An image was compressed with loss, so its Hounsfield units are not the scanner's."""

    code = "INPUT_LOSSY"
    next_step = "Send the original, losslessly stored series."


class UnsupportedPixels(InputError):
    """The pixels are not stored as 16-bit grey values, as those of a CT image are."""

    code = "INPUT_PIXEL_FORMAT"
    next_step = "Export the series as CT images as the scanner makes them."


class UndecodablePixels(InputError):
    """The pixel data of an image cannot be decoded."""

    code = "INPUT_UNDECODABLE"
    next_step = "Export or send the series again; the pixel data are damaged."


class TooLarge(InputError):
    """The images are larger than any CT scanner makes them."""

    code = "INPUT_TOO_LARGE"
    next_step = "Export the series again; sizes in its header or its compressed data cannot be right."


class HuOutOfRange(InputError):
    """The rescaled values of an image cannot be Hounsfield units."""

    code = "INPUT_HU_RANGE"
    next_step = "Check Rescale Slope and Rescale Intercept at the source."


class NotMatching(InputError):
    """The image is not the one the sender announced."""

    code = "INPUT_NOT_MATCHING"
    next_step = "Repair the export at the sender; request and dataset name different instances."


class BodyNotFound(OrgsegError):
    """No patient was found in the images."""

    code = "BODY_NOT_FOUND"
    next_step = "Look at the series: it may be air, a phantom outside the field, or not in HU."


class BundleError(OrgsegError):
    """The model bundle cannot be used."""

    code = "BUNDLE"
    next_step = "Run 'orgseg models list' and 'orgseg models verify'."


class UnknownBundle(BundleError):
    """There is no model bundle of this name."""

    code = "BUNDLE_UNKNOWN"
    next_step = "Run 'orgseg models list' for the names, or 'orgseg models add' to import one."


class BundleInvalid(BundleError):
    """The model bundle is incomplete or its manifest is wrong."""

    code = "BUNDLE_INVALID"
    next_step = "Import the model again with 'orgseg models add'."


class BundleHashMismatch(BundleError):
    """A file of the model bundle is not the file that was imported."""

    code = "BUNDLE_HASH"
    next_step = "Do not use this bundle; restore it from its source with 'orgseg models add'."


class ModelNotImportable(BundleError):
    """The model folder is not one that can be imported."""

    code = "BUNDLE_NOT_IMPORTABLE"
    next_step = "Give an nnU-Net v2 results folder with plans.json, dataset.json and fold_*."


class OrganUnknown(BundleError):
    """A label of the model is not in the organ table."""

    code = "BUNDLE_ORGAN_UNKNOWN"
    next_step = "Name it with --organs LABEL=organ_key, or add the organ to organs.toml."


class BundleExists(BundleError):
    """A model bundle of this name is already there."""

    code = "BUNDLE_EXISTS"
    next_step = "Choose another name with --name; bundles are never overwritten."


class InferenceFailed(BundleError):
    """The network did not finish."""

    code = "INFERENCE_FAILED"
    next_step = "See the job's log; the series is kept and the job can be run again."


class NotStreamable(BundleError):
    """The streaming engine cannot run this model."""

    code = "BUNDLE_NOT_STREAMABLE"
    next_step = 'Run it with method = "whole", nnU-Net\'s own predictor, or train a usual 3d configuration.'


class NotCalibrated(BundleError):
    """The fast mode was not measured on this model here, or is not good enough."""

    code = "BUNDLE_NOT_CALIBRATED"
    next_step = "Run 'orgseg models calibrate NAME CT_FOLDER...', or set backend = \"exact\"."


class OutOfMemory(BundleError):
    """There was not enough memory for the network."""

    code = "INFERENCE_OUT_OF_MEMORY"
    retryable = True
    next_step = (
        "Free memory on this machine, or raise memory_budget_mb where it is set; "
        'of all methods "streaming" needs the least.'
    )


class OutputError(OrgsegError):
    """The result cannot be sent."""

    code = "OUTPUT"
    next_step = "Nothing was sent; keep the job folder and report it."


class ProofFailed(OutputError):
    """The written object, read back, is not the computed label map."""

    code = "OUTPUT_PROOF_FAILED"


class NothingFound(OutputError):
    """No organ was found in the images."""

    code = "OUTPUT_EMPTY"
    next_step = "Check that the series shows the region the model was trained on."


class ObjectInvalid(OutputError):
    """A written object breaks the DICOM standard."""

    code = "OUTPUT_INVALID"


class NetworkError(OrgsegError):
    """A DICOM peer could not be reached or refused."""

    code = "NETWORK"
    retryable = True
    next_step = "Try 'orgseg echo' to the peer and check its address, port and AE titles."


class Unreachable(NetworkError):
    """The peer does not answer."""

    code = "NETWORK_UNREACHABLE"


class AssociationRejected(NetworkError):
    """The peer rejected the association."""

    code = "NETWORK_REJECTED"
    next_step = "Enter this node's AE title at the peer, and the peer's AE title here."


class TlsFailed(NetworkError):
    """No TLS connection could be made."""

    code = "NETWORK_TLS"
    next_step = "Check that the port speaks TLS 1.2 or later, and the certificates that each side asks for."


class PeerCertificateRefused(NetworkError):
    """The peer's certificate is not accepted."""

    code = "NETWORK_TLS_PEER_CERTIFICATE"
    next_step = "Renew the peer's certificate, or enter here who signs it and the name that it holds."


class OwnCertificateRefused(NetworkError):
    """The peer does not accept this node's certificate."""

    code = "NETWORK_TLS_OWN_CERTIFICATE"
    next_step = "Run 'orgseg config check', renew this node's certificate, or enter at the peer who signs it."


class StoreRefused(NetworkError):
    """The peer refused an object."""

    code = "NETWORK_STORE_REFUSED"
    next_step = "See the status code in the peer's log; the object is kept and sent again."

    def __init__(self, detail: str = "", *, status: int | None = None) -> None:
        super().__init__(detail)
        self.status = status


class UnknownDestination(NetworkError):
    """There is no destination of this name."""

    code = "NETWORK_UNKNOWN_DESTINATION"
    retryable = False
    next_step = "Name one from [destinations] in node.toml, or give AE@host:port."


class UnknownSource(NetworkError):
    """There is no source of this name."""

    code = "NETWORK_UNKNOWN_SOURCE"
    retryable = False
    next_step = "Name one from [sources] in node.toml."


class KeyUnusable(NetworkError):
    """What to look for is not written as DICOM wants it."""

    code = "NETWORK_KEY"
    retryable = False
    next_step = "Correct the key; see 'orgseg query --help'."


class QueryRefused(NetworkError):
    """The source refused the query or the retrieval."""

    code = "NETWORK_QUERY_REFUSED"
    next_step = "Look the status up in the source's log; it must allow this node to query and retrieve."

    def __init__(self, detail: str = "", *, status: int | None = None) -> None:
        super().__init__(detail)
        self.status = status


class NothingMatches(NetworkError):
    """The source has nothing that matches."""

    code = "NETWORK_NOTHING_MATCHES"
    retryable = False
    next_step = "Check the keys, and with 'orgseg query' what the source holds."


class PullTooWide(NetworkError):
    """Nothing was pulled, because it would be more than was meant."""

    code = "NETWORK_PULL_TOO_WIDE"
    retryable = False
    next_step = "Name a study, series, accession number or patient without wildcards; 'orgseg query' lists."


class PullIncomplete(NetworkError):
    """Not everything that was asked for has come."""

    code = "NETWORK_PULL_INCOMPLETE"
    next_step = "Pull again. The source's log says why it could not send the rest."


class StorageError(OrgsegError):
    """The node's storage failed."""

    code = "STORAGE"
    next_step = "Check the disk and the rights of the data folder."


class DiskFull(StorageError):
    """The disk is full, or nearly so."""

    code = "STORAGE_DISK_FULL"
    retryable = True
    next_step = "Free disk space; senders are told to try again until then."


class NotDurable(StorageError):
    """An instance could not be written durably."""

    code = "STORAGE_NOT_DURABLE"
    retryable = True


class IllegalTransition(StorageError):
    """A job cannot go from its state to the one asked for."""

    code = "STORAGE_TRANSITION"


class UnknownJob(StorageError):
    """There is no job with this number."""

    code = "STORAGE_UNKNOWN_JOB"
    next_step = "Run 'orgseg jobs list'."


class JobError(OrgsegError):
    """A job of the node did not finish."""

    code = "JOB"
    next_step = "See the job's log in the data folder; the series is kept and the job can be run again."


class WorkerDied(JobError):
    """The process that contours died."""

    code = "JOB_WORKER_DIED"
    retryable = True


class TimeLimit(JobError):
    """The job took longer than the time limit."""

    code = "JOB_TIME_LIMIT"
    next_step = "Raise inference.time_limit_s in node.toml, or use a faster device."


class JobStopped(JobError):
    """The job was cancelled, or a later revision of the series replaced it."""

    code = "JOB_STOPPED"


class ConfigError(OrgsegError):
    """The configuration is wrong."""

    code = "CONFIG"
    exit_status = 3
    next_step = "Correct the file and run 'orgseg config check'."


class EnvironmentFault(OrgsegError):
    """This machine lacks something the node needs."""

    code = "ENVIRONMENT"
    exit_status = 4
    next_step = "Run 'orgseg doctor'."


class PortTaken(EnvironmentFault):
    """The port is in use by another program."""

    code = "ENVIRONMENT_PORT"
    next_step = "Stop the other program, or choose another port in node.toml."


class ToolMissing(EnvironmentFault):
    """A program or package the command needs is not installed."""

    code = "ENVIRONMENT_TOOL"
    next_step = "Install it as the README says."


class FastModeMissing(EnvironmentFault):
    """OpenVINO, which computes the fast mode, is not installed."""

    code = "ENVIRONMENT_OPENVINO"
    next_step = "Run pip install 'orgseg-node[fast]', or set backend = \"exact\"."


class NodeRunning(EnvironmentFault):
    """Another node is already running on this data folder."""

    code = "ENVIRONMENT_NODE_RUNNING"
    next_step = "Stop the other node, or give this one another data_dir."
