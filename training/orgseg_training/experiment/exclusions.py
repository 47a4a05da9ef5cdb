"""Scans and organs left out of an experiment: signed rejects, and in the mode ``strict`` copies."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from typing import Any

from orgseg_training.curation.duplicates import DuplicatePair, redundant_copies
from orgseg_training.curation.rejects import Reject, read_signed
from orgseg_training.datasets.case_store import StoredCase
from orgseg_training.errors import RejectsInvalid
from orgseg_training.experiment.config import Experiment


def signed_rejects(experiment: Experiment) -> tuple[tuple[Reject, ...], str]:
    """The rejects of an experiment and who signed them; none if the experiment names no list.

    Raises
    ------
    RejectsInvalid, RejectsUnsigned
        If the list is not what the named person signed.
    """
    settings = experiment.rejects
    return ((), "") if settings is None else read_signed(settings.file, settings.public_key)


def find_exclusions(
    experiment: Experiment,
    cases: Sequence[StoredCase],
    pairs: Sequence[DuplicatePair],
    *,
    held_out: Callable[[StoredCase], bool],
) -> dict[str, Any]:
    """What is left out, in the form of ``decisions.json``.

    Parameters
    ----------
    experiment : names the reject list; in the mode ``strict`` copies are left out, else only listed
    cases : all ingested scans
    pairs : of copies
    held_out : whether a scan is held out for testing by its data set or the experiment, not by chance

    Returns
    -------
    ``cases`` and ``organs`` (key -> reason, key -> organ -> reason), ``pairs``, ``kept`` (copy -> the scan
    that is kept in its place), ``signer``.

    Raises
    ------
    RejectsInvalid, RejectsUnsigned
        If the list is not signed, or names an unknown scan or organ.
    """
    rejects, signer = signed_rejects(experiment)
    cases_left_out, organs = apply_rejects(rejects, cases)
    remaining = [case.without(organs.get(case.key, ())) for case in cases if case.key not in cases_left_out]
    keys = {case.key for case in remaining}
    remaining_pairs = [pair for pair in pairs if {pair.first, pair.second} <= keys]
    kept = (
        redundant_copies(remaining, remaining_pairs, held_out=held_out) if experiment.mode == "strict" else {}
    )
    cases_left_out |= dict.fromkeys(kept, "copy")
    return {
        "signer": signer,
        "cases": cases_left_out,
        "organs": organs,
        "kept": dict(kept),
        "pairs": [[pair.first, pair.second, pair.kind.value, pair.difference_hu] for pair in pairs],
    }


def apply_rejects(
    rejects: Sequence[Reject], cases: Sequence[StoredCase], also_known: Collection[tuple[str, str]] = ()
) -> tuple[dict[str, str], dict[str, dict[str, str]]]:
    """The scans and the organs that a list leaves out, each with the reason.

    Parameters
    ----------
    rejects : the list
    cases : all ingested scans
    also_known : keys of scans, and of organs of a scan (empty for the scan), that cannot be used anyway

    Raises
    ------
    RejectsInvalid
        If it names an unknown scan or organ.
    """
    by_key = {case.key: case for case in cases}
    left_out: dict[str, str] = {}
    organs: dict[str, dict[str, str]] = {}
    for one in rejects:
        if one.case not in by_key:
            if (one.case, "") not in also_known:
                raise RejectsInvalid(f"There is no scan {one.case}.")
        elif one.organ is None:
            left_out[one.case] = one.reason
        elif one.organ in by_key[one.case].drawn:
            organs.setdefault(one.case, {})[one.organ] = one.reason
        elif (one.case, one.organ) not in also_known:
            raise RejectsInvalid(f"{one.organ} was not drawn in {one.case}.")
    for key, without in organs.items():
        if key not in left_out and by_key[key].drawn <= set(without):
            left_out[key] = "every organ rejected"
    return left_out, organs


def count_reasons(decisions: dict[str, Any]) -> dict[str, tuple[int, int]]:
    """Number of whole scans and of organs of other scans that are left out, by reason."""
    cases = Counter(decisions["cases"].values())
    organs = Counter(reason for found in decisions["organs"].values() for reason in found.values())
    return {reason: (cases[reason], organs[reason]) for reason in sorted(cases | organs)}
