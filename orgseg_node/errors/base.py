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

from __future__ import annotations

from typing import ClassVar


class OrgsegError(Exception):
    """Something in the node went wrong."""

    code: ClassVar[str] = "ORGSEG"
    retryable: ClassVar[bool] = False
    exit_status: ClassVar[int] = 1
    next_step: ClassVar[str] = "Send the log and this code to the person who maintains the node."

    def __init__(self, detail: str = "") -> None:
        self.detail = detail
        super().__init__(detail)

    @property
    def sentence(self) -> str:
        """The sentence for the operator, with the detail of this case."""
        first = (type(self).__doc__ or "").strip().splitlines()[0]
        return f"{first} {self.detail}".strip()

    def __str__(self) -> str:
        return f"[{self.code}] {self.sentence}"
