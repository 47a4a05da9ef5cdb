"""Predictions held against references, offline."""

from __future__ import annotations

from orgseg_node.errors.base import OrgsegError


class EvaluationError(OrgsegError):
    """The results cannot be evaluated."""

    code = "EVALUATION"
    next_step = "Run 'orgseg-train evaluate --help' to see what is expected."


class NotPaired(EvaluationError):
    """References and predictions do not belong together."""

    code = "EVALUATION_NOT_PAIRED"
    next_step = "Give two folders whose NIfTI files have the same names, one file for each case."


class GridsDiffer(EvaluationError):
    """A prediction does not lie on the voxels of its reference."""

    code = "EVALUATION_GRID"
    next_step = "Bring the prediction back to the original image first; nothing is resampled here."


class LabelsInvalid(EvaluationError):
    """It is not known which number is which organ."""

    code = "EVALUATION_LABELS"
    next_step = "Give --labels a file with one organ key and number a line, such as: liver = 1."


class CasesInvalid(EvaluationError):
    """The file of per-case results is damaged, or not one."""

    code = "EVALUATION_CASES"
    next_step = "Make it again with 'orgseg-train evaluate'."
