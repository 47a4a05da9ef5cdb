"""Every error the node can raise, in one tree.

::

    OrgsegError
    ├── InputError              the input cannot be used
    │   ├── NotDicom  Unreadable  TruncatedFile  WrongModality  NoPixelData  NotImages
    │   ├── NoSeries  SeveralSeries  SeveralParts  SeveralPatients  MissingAttribute  InvalidAttribute
    │   ├── TooFewSlices  MissingSlices  DuplicateSlices  IrregularSpacing  NotMatching
    │   ├── TiltedGantry  SidewaysDrift  MixedGeometry  NotAxial  MultiframeImage
    │   ├── UnsupportedSyntax  LossyCompression  UnsupportedPixels
    │   └── UndecodablePixels  HuOutOfRange  TooLarge  TooManyItems  NotMultipart  NotStructures
    ├── BodyNotFound            no patient in the images
    ├── ScanDoubtful            the scan is not one that the model can contour
    │   └── RegionNotTrained  PatientPositionDoubtful  SidesDoubtful  ScanKindDoubtful
    ├── BundleError             the model bundle
    │   ├── UnknownBundle  BundleInvalid  BundleHashMismatch  BundleReplaced
    │   ├── OrganUnknown  BundleExists
    │   ├── ModelNotImportable (ModelUnsupported  ModelDamaged  ModelContradictory)
    │   ├── NotStreamable  NotCalibrated  GuideUnsuitable
    │   └── InferenceFailed  OutOfMemory (retryable)  BudgetTooSmall
    ├── ModelError              versions of models, their gate and promotion
    │   ├── UnknownVersion  NoLiveVersion  NoEarlierVersion  NotProven
    │   ├── GateNotRead  GateDamaged  GateUnsigned  GateForeign  GateNotPassed  GateOfOtherModels
    │   └── SignerUnknown  SigningKeyUnusable
    ├── OutputError             the written objects
    │   └── ProofFailed  NothingFound  NothingPlausible  ObjectInvalid
    ├── NetworkError            DICOM peers (retryable)
    │   ├── Unreachable (AssociationAborted  NoAnswer)  AssociationRejected  StoreRefused (ClassRefused)
    │   ├── UnknownDestination  MoveRefused  NotAuthorised  CommitmentRefused
    │   ├── TlsFailed  PeerCertificateRefused  OwnCertificateRefused
    │   └── UnknownSource  KeyUnusable  QueryRefused  NothingMatches  PullTooWide  PullIncomplete
    ├── StorageError            disk and database
    │   ├── DatabaseUnreachable (retryable)  NeverStarted  DatabaseNewer  UnknownJob  UnknownSeries
    │   └── DiskFull (retryable)  NotDurable (retryable)  IllegalTransition
    ├── JobError                a job of the node
    │   ├── UnexpectedFailure  SystemCallFailed (retryable)  WorkerDied (retryable)
    │   ├──  TimeLimit  JobStopped  DeadLetter  HeldByRule  RuleUndecided
    │   └── JobRefuses  SeriesRefuses  IncompleteSeries  SendingBroken  LateImages
    │       SeriesUnexpected  SeriesUnreadable  SurveyDied  ReadingStopped (retryable)
    │       ResultMissing  ResultDeleted  ResultUnreadable  ObjectsNotMade  TrialFailed  ReplayFailed
    ├── EvaluationError         comparison of predictions with references, offline
    │   └── NotPaired  GridsDiffer  LabelsInvalid  CasesInvalid
    ├── OperationError          operation of the node
    │   ├── NotNotified (retryable)  ItemsFailed  AuditBroken  BackupRefused  BackupInvalid  NodeNotRunning
    │   └── ReloadRefused  FeedbackError (UnknownFeedback  NotAStructureSet  FeedbackUnmeasured)
    ├── UserError               accounts of the pages
    │   └── UnknownUser  UserInvalid  PasswordRefused  RoleMissing
    ├── ConfigError             node.toml, organs.toml
    │   └── ProtocolInvalid  ProtocolReadOnly  ProtocolChanged  SettingsInvalid
    ├── OptionInvalid           an option of a command
    └── EnvironmentFault        missing on this machine
        └── PortTaken  ToolMissing  FastModeMissing  CompilerMissing  NodeRunning  NotPermitted

The first line of a class's docstring is the sentence for the operator; `next_step` is the recommended action.
No message contains a patient's name, ID or birth date.
"""

from orgseg_node.errors.base import OrgsegError
from orgseg_node.errors.bundles import (
    BudgetTooSmall,
    BundleError,
    BundleExists,
    BundleHashMismatch,
    BundleInvalid,
    BundleReplaced,
    GuideUnsuitable,
    InferenceFailed,
    ModelContradictory,
    ModelDamaged,
    ModelNotImportable,
    ModelUnsupported,
    NotCalibrated,
    NotStreamable,
    OrganUnknown,
    OutOfMemory,
    UnknownBundle,
)
from orgseg_node.errors.evaluation import (
    CasesInvalid,
    EvaluationError,
    GridsDiffer,
    LabelsInvalid,
    NotPaired,
)
from orgseg_node.errors.inputs import (
    DuplicateSlices,
    HuOutOfRange,
    InputError,
    InvalidAttribute,
    IrregularSpacing,
    LossyCompression,
    MissingAttribute,
    MissingSlices,
    MixedGeometry,
    MultiframeImage,
    NoPixelData,
    NoSeries,
    NotAxial,
    NotDicom,
    NotImages,
    NotMatching,
    NotMultipart,
    NotStructures,
    SeveralParts,
    SeveralPatients,
    SeveralSeries,
    SidewaysDrift,
    TiltedGantry,
    TooFewSlices,
    TooLarge,
    TooManyItems,
    TruncatedFile,
    UndecodablePixels,
    Unreadable,
    UnsupportedPixels,
    UnsupportedSyntax,
    WrongModality,
)
from orgseg_node.errors.jobs import (
    DeadLetter,
    HeldByRule,
    IncompleteSeries,
    JobError,
    JobRefuses,
    JobStopped,
    LateImages,
    ObjectsNotMade,
    ReadingStopped,
    ReplayFailed,
    ResultDeleted,
    ResultMissing,
    ResultUnreadable,
    RuleUndecided,
    SendingBroken,
    SeriesRefuses,
    SeriesUnexpected,
    SeriesUnreadable,
    SurveyDied,
    SystemCallFailed,
    TimeLimit,
    TrialFailed,
    UnexpectedFailure,
    WorkerDied,
)
from orgseg_node.errors.machine import (
    CompilerMissing,
    ConfigError,
    EnvironmentFault,
    FastModeMissing,
    NodeRunning,
    NotPermitted,
    OptionInvalid,
    PortTaken,
    ProtocolChanged,
    ProtocolInvalid,
    ProtocolReadOnly,
    SettingsInvalid,
    ToolMissing,
)
from orgseg_node.errors.models import (
    GateDamaged,
    GateForeign,
    GateNotPassed,
    GateNotRead,
    GateOfOtherModels,
    GateUnsigned,
    ModelError,
    NoEarlierVersion,
    NoLiveVersion,
    NotProven,
    SignerUnknown,
    SigningKeyUnusable,
    UnknownVersion,
)
from orgseg_node.errors.network import (
    AssociationAborted,
    AssociationRejected,
    ClassRefused,
    CommitmentRefused,
    KeyUnusable,
    MoveRefused,
    NetworkError,
    NoAnswer,
    NotAuthorised,
    NothingMatches,
    OwnCertificateRefused,
    PeerCertificateRefused,
    PullIncomplete,
    PullTooWide,
    QueryRefused,
    StoreRefused,
    TlsFailed,
    UnknownDestination,
    UnknownSource,
    Unreachable,
)
from orgseg_node.errors.operations import (
    AuditBroken,
    BackupInvalid,
    BackupRefused,
    FeedbackError,
    FeedbackUnmeasured,
    ItemsFailed,
    NodeNotRunning,
    NotAStructureSet,
    NotNotified,
    OperationError,
    ReloadRefused,
    UnknownFeedback,
)
from orgseg_node.errors.results import (
    BodyNotFound,
    NothingFound,
    NothingPlausible,
    ObjectInvalid,
    OutputError,
    ProofFailed,
)
from orgseg_node.errors.scans import (
    SCAN_CODES,
    PatientPositionDoubtful,
    RegionNotTrained,
    ScanDoubtful,
    ScanKindDoubtful,
    SidesDoubtful,
    scan_error,
)
from orgseg_node.errors.storage import (
    DatabaseNewer,
    DatabaseUnreachable,
    DiskFull,
    IllegalTransition,
    NeverStarted,
    NotDurable,
    StorageError,
    UnknownJob,
    UnknownSeries,
)
from orgseg_node.errors.users import PasswordRefused, RoleMissing, UnknownUser, UserError, UserInvalid

__all__ = [
    "SCAN_CODES",
    "AssociationAborted",
    "AssociationRejected",
    "AuditBroken",
    "BackupInvalid",
    "BackupRefused",
    "BodyNotFound",
    "BudgetTooSmall",
    "BundleError",
    "BundleExists",
    "BundleHashMismatch",
    "BundleInvalid",
    "BundleReplaced",
    "CasesInvalid",
    "ClassRefused",
    "CommitmentRefused",
    "CompilerMissing",
    "ConfigError",
    "DatabaseNewer",
    "DatabaseUnreachable",
    "DeadLetter",
    "DiskFull",
    "DuplicateSlices",
    "EnvironmentFault",
    "EvaluationError",
    "FastModeMissing",
    "FeedbackError",
    "FeedbackUnmeasured",
    "GateDamaged",
    "GateForeign",
    "GateNotPassed",
    "GateNotRead",
    "GateOfOtherModels",
    "GateUnsigned",
    "GridsDiffer",
    "GuideUnsuitable",
    "HeldByRule",
    "HuOutOfRange",
    "IllegalTransition",
    "IncompleteSeries",
    "InferenceFailed",
    "InputError",
    "InvalidAttribute",
    "IrregularSpacing",
    "ItemsFailed",
    "JobError",
    "JobRefuses",
    "JobStopped",
    "KeyUnusable",
    "LabelsInvalid",
    "LateImages",
    "LossyCompression",
    "MissingAttribute",
    "MissingSlices",
    "MixedGeometry",
    "ModelContradictory",
    "ModelDamaged",
    "ModelError",
    "ModelNotImportable",
    "ModelUnsupported",
    "MoveRefused",
    "MultiframeImage",
    "NetworkError",
    "NeverStarted",
    "NoAnswer",
    "NoEarlierVersion",
    "NoLiveVersion",
    "NoPixelData",
    "NoSeries",
    "NodeNotRunning",
    "NodeRunning",
    "NotAStructureSet",
    "NotAuthorised",
    "NotAxial",
    "NotCalibrated",
    "NotDicom",
    "NotDurable",
    "NotImages",
    "NotMatching",
    "NotMultipart",
    "NotNotified",
    "NotPaired",
    "NotPermitted",
    "NotProven",
    "NotStreamable",
    "NotStructures",
    "NothingFound",
    "NothingMatches",
    "NothingPlausible",
    "ObjectInvalid",
    "ObjectsNotMade",
    "OperationError",
    "OptionInvalid",
    "OrganUnknown",
    "OrgsegError",
    "OutOfMemory",
    "OutputError",
    "OwnCertificateRefused",
    "PasswordRefused",
    "PatientPositionDoubtful",
    "PeerCertificateRefused",
    "PortTaken",
    "ProofFailed",
    "ProtocolChanged",
    "ProtocolInvalid",
    "ProtocolReadOnly",
    "PullIncomplete",
    "PullTooWide",
    "QueryRefused",
    "ReadingStopped",
    "RegionNotTrained",
    "ReloadRefused",
    "ReplayFailed",
    "ResultDeleted",
    "ResultMissing",
    "ResultUnreadable",
    "RoleMissing",
    "RuleUndecided",
    "ScanDoubtful",
    "ScanKindDoubtful",
    "SendingBroken",
    "SeriesRefuses",
    "SeriesUnexpected",
    "SeriesUnreadable",
    "SettingsInvalid",
    "SeveralParts",
    "SeveralPatients",
    "SeveralSeries",
    "SidesDoubtful",
    "SidewaysDrift",
    "SignerUnknown",
    "SigningKeyUnusable",
    "StorageError",
    "StoreRefused",
    "SurveyDied",
    "SystemCallFailed",
    "TiltedGantry",
    "TimeLimit",
    "TlsFailed",
    "TooFewSlices",
    "TooLarge",
    "TooManyItems",
    "ToolMissing",
    "TrialFailed",
    "TruncatedFile",
    "UndecodablePixels",
    "UnexpectedFailure",
    "UnknownBundle",
    "UnknownDestination",
    "UnknownFeedback",
    "UnknownJob",
    "UnknownSeries",
    "UnknownSource",
    "UnknownUser",
    "UnknownVersion",
    "Unreachable",
    "Unreadable",
    "UnsupportedPixels",
    "UnsupportedSyntax",
    "UserError",
    "UserInvalid",
    "WorkerDied",
    "WrongModality",
    "scan_error",
]
