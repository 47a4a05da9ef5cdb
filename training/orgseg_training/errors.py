"""What can be wrong with an experiment, besides what can be wrong with a node."""

from __future__ import annotations

from orgseg_node.errors import OrgsegError


class TrainingError(OrgsegError):
    """The experiment cannot go on."""

    code = "TRAINING"
    next_step = "Look at the log of the step; every step can be run again."


class CaseRejected(TrainingError):
    """A scan cannot be used for training."""

    code = "TRAINING_CASE_REJECTED"
    next_step = "Correct the scan or leave it out; it is listed in rejected.json and the others are used."


class SplitChanged(TrainingError):
    """The division into training and test scans was fixed before and would now be another."""

    code = "TRAINING_SPLIT_CHANGED"
    next_step = "Start a new working folder; a split that was trained on is never changed."


class ExperimentChanged(TrainingError):
    """The working folder belongs to another experiment."""

    code = "TRAINING_EXPERIMENT_CHANGED"
    next_step = "Choose a new folder with --out, or go on with the experiment as it was."


class FolderInUse(TrainingError):
    """Another run is at work in this folder."""

    code = "TRAINING_FOLDER_IN_USE"
    next_step = "Wait for it, or stop it; it can be started again."


class NoPositives(TrainingError):
    """An organ is drawn in too few scans to be trained and validated."""

    code = "TRAINING_NO_POSITIVES"
    next_step = "Use fewer folds, add scans in which the organ is drawn, or leave the organ out."


class TrainerFailed(TrainingError):
    """Training ended before it was done."""

    code = "TRAINING_NNUNET"
    next_step = "Read the last lines of its log; running the step again goes on from the last checkpoint."


class RejectsInvalid(TrainingError):
    """The list of rejected scans cannot be used as it is."""

    code = "TRAINING_REJECTS_INVALID"
    next_step = "Correct the list and sign it again with orgseg-train rejects sign."


class RejectsUnsigned(TrainingError):
    """The list of rejected scans is not signed by whom the experiment names."""

    code = "TRAINING_REJECTS_UNSIGNED"
    next_step = (
        "Let the person who is responsible look at the list and sign it with orgseg-train rejects sign."
    )


class KeyUnusable(TrainingError):
    """The key for signing cannot be used."""

    code = "TRAINING_KEY"
    next_step = "Name the key file of orgseg-train rejects keygen, or another file for a new one."


class CurationChanged(TrainingError):
    """What is left out was settled before the splits were locked and would now be another."""

    code = "TRAINING_CURATION_CHANGED"
    next_step = "Start a new working folder; what was trained on is never changed."


class AnatomyContradicted(CaseRejected):
    """Organs of a scan lie where no body has them."""

    code = "TRAINING_ANATOMY"
    next_step = "Look whether sides, names or numbers of its labels are exchanged; the scan is left out."


class NoScans(TrainingError):
    """No scan was taken in here yet."""

    code = "TRAINING_NO_SCANS"
    next_step = "Name a working folder into which orgseg-train run or step ingest took scans."
