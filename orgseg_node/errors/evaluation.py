"""Comparison of predictions with references, offline."""

from __future__ import annotations

from orgseg_node.errors.base import OrgsegError


class EvaluationError(OrgsegError):
    """The results cannot be evaluated."""

    code = "EVALUATION"
    next_step = "Run 'orgseg-train evaluate --help' for the expected input."


class NotPaired(EvaluationError):
    """References and predictions do not belong together."""

    code = "EVALUATION_NOT_PAIRED"
    next_step = "Give two folders whose NIfTI files have the same names, one file for each case."


class GridsDiffer(EvaluationError):
    """A prediction does not have the grid of its reference."""

    code = "EVALUATION_GRID"
    next_step = "Resample the prediction to the original image first; nothing is resampled here."


class LabelsInvalid(EvaluationError):
    """The organ of each label number is not known."""

    code = "EVALUATION_LABELS"
    next_step = "Give --labels a file with one organ key and number per line, such as: liver = 1."


class CasesInvalid(EvaluationError):
    """The file of per-case results is damaged, or has another format."""

    code = "EVALUATION_CASES"
    next_step = "Create it again with 'orgseg-train evaluate'."
