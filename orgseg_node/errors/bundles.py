"""Model bundles, and the networks in them."""

from __future__ import annotations

from orgseg_node.errors.base import OrgsegError


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


class BundleReplaced(BundleError):
    """The model bundle is not the version that was chosen for the job."""

    code = "BUNDLE_REPLACED"
    next_step = (
        "Restore the bundle with 'orgseg models add', then run the job again with 'orgseg jobs retry'."
    )


class ModelNotImportable(BundleError):
    """The model folder cannot be imported."""

    code = "BUNDLE_NOT_IMPORTABLE"
    next_step = "Do as the sentence says; an nnU-Net v2 folder has plans.json, dataset.json and fold_*."


class ModelUnsupported(ModelNotImportable):
    """The node cannot run this kind of model."""

    code = "BUNDLE_MODEL_UNSUPPORTED"
    next_step = "Do as the sentence says, or choose another model; docs/model-life.md says what is run."


class ModelDamaged(ModelNotImportable):
    """A file of the model is damaged or incomplete."""

    code = "BUNDLE_MODEL_DAMAGED"
    next_step = "Copy the model again from where it was trained, and compare the sizes of the files."


class ModelContradictory(ModelNotImportable):
    """The files of the model contradict each other."""

    code = "BUNDLE_MODEL_CONTRADICTORY"
    next_step = (
        "Put plans.json, dataset.json and the checkpoints of one training together, unchanged; "
        "organs that were named wrongly in the training are corrected by --organs LABEL=organ_key."
    )


class OrganUnknown(BundleError):
    """A label of the model is not in the organ table."""

    code = "BUNDLE_ORGAN_UNKNOWN"
    next_step = "Name it with --organs LABEL=organ_key, or add the organ to organs.toml."


class BundleExists(BundleError):
    """A model bundle of this name exists already."""

    code = "BUNDLE_EXISTS"
    next_step = "Choose another name with --name; bundles are never overwritten."


class InferenceFailed(BundleError):
    """The network did not finish."""

    code = "INFERENCE_FAILED"
    next_step = "Read the reason; in a node the series is kept, and 'orgseg jobs retry' runs the job again."


class NotStreamable(BundleError):
    """The streaming engine cannot run this model."""

    code = "BUNDLE_NOT_STREAMABLE"
    next_step = 'Set method = "whole" to use the predictor of nnU-Net, or train a 3d_fullres configuration.'


class NotCalibrated(BundleError):
    """The fast mode was not calibrated for this model on this machine, or is not accurate enough."""

    code = "BUNDLE_NOT_CALIBRATED"
    next_step = (
        "Run 'orgseg models calibrate NAME CT_FOLDER...', for the compiled mode with --backend compiled, "
        'or set backend = "exact".'
    )


class GuideUnsuitable(BundleError):
    """The bundle has no guide, or a bundle cannot be its guide."""

    code = "BUNDLE_GUIDE"
    next_step = "Run 'orgseg models guide NAME GUIDE' with a bundle GUIDE that finds the same organs."


class OutOfMemory(BundleError):
    """There is not enough memory for the network."""

    code = "INFERENCE_OUT_OF_MEMORY"
    retryable = True
    next_step = (
        "Free memory on this machine, or raise memory_budget_mb if it is set; "
        'method = "streaming" needs the least.'
    )


class BudgetTooSmall(OutOfMemory):
    """The network needs more memory than it may use."""

    code = "INFERENCE_BUDGET"
    retryable = False  # a smaller budget would not help
    next_step = 'Raise memory_budget_mb; method = "streaming" needs the least.'
