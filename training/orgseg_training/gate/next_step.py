"""What a person does after a gate, as the last line of ``orgseg-train site judge``."""

from __future__ import annotations

from pathlib import Path

from orgseg_node.inference.bundles.gate_file import GateVerdict
from orgseg_training.gate.judgement import Judgement


def next_step(judgement: Judgement, name: str, gate_file: Path, *, folder: Path | None, signed: bool) -> str:
    """The commands after a gate, or what to change.

    Parameters
    ----------
    judgement : of the candidate
    name : of the candidate
    gate_file : that was written
    folder : of the candidate if it is not installed yet
    signed : whether a person signed the gate file
    """
    organs = ", ".join(one.organ for one in judgement.organs if one.verdict is judgement.verdict)
    match judgement.verdict:
        case GateVerdict.PASS if not signed:
            return (
                "Then: repeat the command with --key, so that it can be promoted; nothing is contoured again."
            )
        case GateVerdict.PASS:
            install = "" if folder is None else f"orgseg models add {folder}, then "
            shadow = f'orgseg models shadow {name} --why "before promotion"'
            return (
                f"Then: {install}{shadow}; when 'orgseg models shadow' has enough scans,"
                f" orgseg models promote {name} --gate {gate_file} --key KEY"
            )
        case GateVerdict.INCONCLUSIVE:
            return (
                "Nothing speaks against it, but these patients do not show that it is as good"
                f" in {organs or 'every organ'}. Then: add patients, lock and judge again (--plan says how"
                " many are needed), or tune with --separate and without these organs: they stay with the live"
                " networks and need no patients."
            )
        case _:
            where = f" in {organs}" if organs else ""
            return (
                f"The live model stays. Then: look at the cases{where} in {gate_file.with_suffix('.html')},"
                " and at the training contours in qc/index.html; correct them or train longer, and tune"
                " again, or with --separate and without these organs: they stay with the live networks."
            )
