"""Errors of training, in addition to those of the node."""

from __future__ import annotations

from orgseg_node.errors import (
    ConfigError,
    ObjectInvalid,
    OrgsegError,
    OutOfMemory,
    SystemCallFailed,
    UnexpectedFailure,
)
from orgseg_node.errors.unexpected import coded


class TrainingError(OrgsegError):
    """The experiment cannot continue."""

    code = "TRAINING"
    next_step = "Read the log of the step; every step can be run again."


class CaseRejected(TrainingError):
    """A scan cannot be used for training."""

    code = "TRAINING_CASE_REJECTED"
    next_step = "Correct the scan or leave it out; it is listed in rejected.json, the other scans are used."


class ScanUnexpected(CaseRejected):
    """A scan cannot be read for a reason that the program does not know."""

    code = "TRAINING_CASE_UNEXPECTED"
    next_step = "Report this type and place to whoever maintains the program; the other scans are used."


class ScanNotRead(CaseRejected):
    """A scan could not be read, because memory was short or the operating system failed."""

    code = "TRAINING_CASE_NOT_READ"
    retryable = True
    next_step = "Run the step again before anything is trained; the other scans are used."


class SplitChanged(TrainingError):
    """The split into training and test scans was fixed before and would now be different."""

    code = "TRAINING_SPLIT_CHANGED"
    next_step = "Start a new working folder; a split that was trained on is never changed."


class ExperimentChanged(TrainingError):
    """The working folder belongs to another experiment."""

    code = "TRAINING_EXPERIMENT_CHANGED"
    next_step = "Choose a new folder with --out, or continue the experiment as it was."


class FolderInUse(TrainingError):
    """Another run uses this folder."""

    code = "TRAINING_FOLDER_IN_USE"
    next_step = "Wait for it, or stop it; it can be started again."


class NoPositives(TrainingError):
    """An organ is drawn in too few scans to be trained and validated."""

    code = "TRAINING_NO_POSITIVES"
    next_step = "Use fewer folds, add scans in which the organ is drawn, or leave the organ out."


class TrainerFailed(TrainingError):
    """Training ended before it was finished."""

    code = "TRAINING_NNUNET"
    next_step = (
        "Read the last lines of its log; the step can be run again and continues from the last checkpoint."
    )


class TrainingNotFinite(TrainingError):
    """Too many steps of a training gave numbers that are not finite."""

    code = "TRAINING_NOT_FINITE"
    next_step = (
        "Run it again: it continues from the last checkpoint, which is finite. If it ends here again, use a"
        " lower learning rate."
    )


class TrainingKilled(TrainingError):
    """The process that trained was ended from outside."""

    code = "TRAINING_KILLED"
    retryable = True
    next_step = (
        "Free memory on this machine or train with fewer threads, and run it again: it continues from the"
        " last checkpoint."
    )


class StartUnfit(TrainingError):
    """Training cannot start from this bundle."""

    code = "TRAINING_START_UNFIT"
    next_step = "Start from another bundle with --from; orgseg models list names them."


class TuningExists(TrainingError):
    """A fine-tuning of this name was begun with something else."""

    code = "TRAINING_TUNING_EXISTS"
    next_step = (
        "Repeat the command with which it was begun to continue it, choose another --name, or delete its"
        " folder to begin anew."
    )


class TooFewDrawn(TrainingError):
    """An organ is drawn in too few patients to be trained."""

    code = "TRAINING_TOO_FEW_DRAWN"
    next_step = "Add patients in whom it is drawn, or leave it out of --organs."


class NothingLearned(TrainingError):
    """After training an organ is hardly found in the validation patients."""

    code = "TRAINING_NOTHING_LEARNED"
    next_step = (
        "Look at the contours of these organs; train longer with --iterations. With --accept-low the bundle"
        " is written anyway, and its card says so."
    )


class RejectsInvalid(TrainingError):
    """The list of rejected scans cannot be used as it is."""

    code = "TRAINING_REJECTS_INVALID"
    next_step = "Correct the list and sign it again with orgseg-train rejects sign."


class RejectsUnsigned(TrainingError):
    """The list of rejected scans is not signed by the person whose signature counts."""

    code = "TRAINING_REJECTS_UNSIGNED"
    next_step = "Let the responsible person check the list and sign it with orgseg-train rejects sign."


class KeyUnusable(TrainingError):
    """The key for signing cannot be used."""

    code = "TRAINING_KEY"
    next_step = "Name a key file of orgseg-train rejects keygen, or another file for a new one."


class CurationChanged(TrainingError):
    """What is left out was fixed when the splits were locked and would now be different."""

    code = "TRAINING_CURATION_CHANGED"
    next_step = "Start a new working folder; what was trained on is never changed."


class GateLeak(TrainingError):
    """The candidate was trained on patients that are locked for the test."""

    code = "TRAINING_GATE_LEAK"
    next_step = "Train it again without them; a test on scans that it has seen proves nothing."


class NothingToJudge(TrainingError):
    """There is no scan on which both models can be compared."""

    code = "TRAINING_GATE_NO_SCANS"
    next_step = "Lock patients for the test with orgseg-train site lock, with contours of the model's organs."


class RatingsInvalid(TrainingError):
    """The rating sheet cannot be used as it is."""

    code = "TRAINING_RATINGS"
    next_step = (
        "Correct what is named in the CSV and read it again at the site that printed it, or print a new sheet"
        " with orgseg-train site judge --rating-sheet. Earlier ratings are unchanged."
    )


class AnatomyContradicted(CaseRejected):
    """Organs of a scan are at impossible positions."""

    code = "TRAINING_ANATOMY"
    next_step = "Check whether sides, names or numbers of its labels are exchanged; the scan is left out."


class NoScans(TrainingError):
    """No scan was ingested here yet."""

    code = "TRAINING_NO_SCANS"
    next_step = "Name a working folder with scans ingested by orgseg-train run or orgseg-train step ingest."


class NoSite(TrainingError):
    """This is not the folder of a site's data set."""

    code = "TRAINING_NO_SITE"
    next_step = "Name the folder that orgseg-train site survey wrote, or make one with it."


class SiteExists(TrainingError):
    """This folder holds a site's data set already."""

    code = "TRAINING_SITE_EXISTS"
    next_step = "Choose another folder with --out, or continue with this one."


class TrainingSettingsInvalid(ConfigError):
    """A file of settings of training cannot be used."""

    code = "TRAINING_SETTINGS"
    next_step = "Correct what is named in the file, and repeat the command."


class SiteSettingsInvalid(ConfigError):
    """The settings of a site's data set are invalid."""

    code = "TRAINING_SITE_SETTINGS"
    next_step = "Correct site.toml in the site's folder; a line above each setting explains it."


class NamesInvalid(TrainingError):
    """The list of ROI names cannot be used as it is."""

    code = "TRAINING_NAMES_INVALID"
    next_step = (
        'Correct the lines of names.toml: "ROI name" = "key of the organ", or "" to leave the ROI out.'
    )


class NotLocked(TrainingError):
    """The cases of this site are not locked."""

    code = "TRAINING_NOT_LOCKED"
    next_step = "Run orgseg-train site lock once the cases were checked with orgseg-train site qc."


class LockDamaged(TrainingError):
    """The lock of training and test cases is damaged or was changed."""

    code = "TRAINING_LOCK_DAMAGED"
    next_step = (
        "Restore lock.json from a backup, or delete it and run orgseg-train site lock: "
        "the ledger keeps every patient's part."
    )


class LockChanged(TrainingError):
    """Cases were added to, changed or taken out of what was locked."""

    code = "TRAINING_LOCK_CHANGED"
    next_step = "Run orgseg-train site lock again; every patient keeps its part."


class LedgerDamaged(TrainingError):
    """The ledger of training and test patients is damaged."""

    code = "TRAINING_LEDGER_DAMAGED"
    next_step = "Restore the file ledger from a backup: without it a test patient could be trained on."


class PatientsMixed(TrainingError):
    """Copies of one scan are of a training patient and of a test patient."""

    code = "TRAINING_PATIENTS_MIXED"
    next_step = "Reject one of the cases with a signed reject list, then lock again."


class TooFewPatients(TrainingError):
    """Too few patients can be used."""

    code = "TRAINING_TOO_FEW_PATIENTS"
    next_step = "Read the reasons that orgseg-train site ingest prints, remove them, or add patients."


class CaseUnknown(TrainingError):
    """There is no such case."""

    code = "TRAINING_CASE_UNKNOWN"
    next_step = "Name a case as the list of site ingest or the page of site qc names it."


def short_reason(sentence: str) -> str:
    """Why a scan is not used, without saying that it is not used."""
    return sentence.removeprefix(f"{CaseRejected('').sentence} ")


def scan_error(error: Exception) -> OrgsegError:
    """What any exception means for a scan, without its text, which may name the patient."""
    if isinstance(error, ObjectInvalid):
        return CaseRejected(f"Its RTSTRUCT is damaged: {error.detail}")
    known = coded(error)
    if known is error:
        return known
    if isinstance(known, UnexpectedFailure):
        return ScanUnexpected(known.detail)
    if isinstance(known, (OutOfMemory, SystemCallFailed)):
        return ScanNotRead(known.detail or "There is not enough memory.")
    return known
