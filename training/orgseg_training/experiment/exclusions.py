"""What is left out of an experiment, and why: signed rejects, and in the mode ``strict`` copies."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from orgseg_training.curation.duplicates import Pair, surplus
from orgseg_training.curation.rejects import Reject, verified
from orgseg_training.datasets.case_store import StoredCase
from orgseg_training.errors import RejectsInvalid
from orgseg_training.experiment.config import Experiment


def signed_rejects(experiment: Experiment) -> tuple[tuple[Reject, ...], str]:
    """The rejects of an experiment and who signed them; none where it names no list.

    Raises
    ------
    RejectsInvalid, RejectsUnsigned
        If the list is not what the named person signed.
    """
    said = experiment.rejects
    return ((), "") if said is None else verified(said.file, said.public_key)


def decide(
    experiment: Experiment,
    cases: Sequence[StoredCase],
    pairs: Sequence[Pair],
    *,
    held: Callable[[StoredCase], bool],
) -> dict[str, Any]:
    """What is left out, as ``decisions.json`` holds it.

    Parameters
    ----------
    experiment : names the list of rejects; its mode says whether copies are left out or only listed
    cases : all scans that were taken in
    pairs : of copies
    held : whether a scan is held back for testing whatever the chance

    Returns
    -------
    ``cases`` and ``organs`` (key -> reason, key -> organ -> reason), ``pairs``, ``kept`` (copy -> the scan
    that is kept for it), ``signer``.

    Raises
    ------
    RejectsInvalid, RejectsUnsigned
        If the list is not signed, or names what is not there.
    """
    rejects, signer = signed_rejects(experiment)
    by_key = {case.key: case for case in cases}
    whole: dict[str, str] = {}
    organs: dict[str, dict[str, str]] = {}
    for one in rejects:
        if one.case not in by_key:
            raise RejectsInvalid(f"There is no scan {one.case}.")
        if one.organ is None:
            whole[one.case] = one.reason
        elif one.organ in by_key[one.case].drawn:
            organs.setdefault(one.case, {})[one.organ] = one.reason
        else:
            raise RejectsInvalid(f"{one.organ} was not drawn in {one.case}.")
    for key, without in organs.items():
        if key not in whole and by_key[key].drawn <= set(without):
            whole[key] = "every organ rejected"
    left = [case.without(organs.get(case.key, ())) for case in cases if case.key not in whole]
    here = {case.key for case in left}
    among = [pair for pair in pairs if {pair.first, pair.second} <= here]
    kept = surplus(left, among, held=held) if experiment.mode == "strict" else {}
    whole |= dict.fromkeys(kept, "copy")
    return {
        "signer": signer,
        "cases": whole,
        "organs": organs,
        "kept": dict(kept),
        "pairs": [[pair.first, pair.second, pair.likeness.value, pair.difference_hu] for pair in pairs],
    }


def counted(decisions: dict[str, Any]) -> dict[str, tuple[int, int]]:
    """Whole scans and single organs left out, by reason."""
    cases = Counter(decisions["cases"].values())
    organs = Counter(reason for found in decisions["organs"].values() for reason in found.values())
    return {reason: (cases[reason], organs[reason]) for reason in sorted(cases | organs)}
