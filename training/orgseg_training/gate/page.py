"""The gate for people: an HTML page, and the same as PDF. Both are made from the content of the gate file."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from orgseg_node.documents import escaped, html_list, html_page, html_table, text_pdf

_STYLE: Final = """
.PASS{color:#006b2d}.FAIL{color:#b00020}.INCONCLUSIVE{color:#8a5a00}
.verdict{font-size:1.6em;font-weight:bold}
"""

_ORGANS: Final = (
    "organ", "verdict", "patients", "Dice live", "candidate", "difference", "at least", "surface Dice diff.",
    "at least", "HD95 live", "candidate", "new misses", "implausible", "p better",
)  # fmt: skip


def render_html(content: Mapping[str, Any]) -> bytes:
    """The gate as an HTML page without any other file.

    Parameters
    ----------
    content : of the gate file
    """
    parts = [
        f"<h1>Gate of {escaped(content['site'])}</h1>",
        f'<p class="verdict {content["verdict"]}">{content["verdict"]}</p>',
        html_list(_facts(content)),
    ]
    if content["reasons"]:
        parts += ["<h2>Reasons</h2>", html_list(content["reasons"])]
    parts += ["<h2>Organs</h2>", html_table(_ORGANS, map(_organ_cells, content["organs"]))]
    head: tuple[str, ...]
    if content["new_organs"]:
        head = ("organ", "scans", "mean Dice", "missed", "implausible")
        rows = [[o["organ"], o["scans"], _num(o["mean_dice"]), o["missed"], o["implausible"]]
                for o in content["new_organs"]]  # fmt: skip
        parts += ["<h2>New organs: there is nothing to compare them with</h2>", html_table(head, rows)]
    if content["subgroups"]:
        head = ("kind", "value", "organ", "patients", "Dice difference", "at least", "shown")
        parts += ["<h2>Kinds of scans: shown, and part of no verdict</h2>",
                  html_table(head, map(_subgroup_cells, content["subgroups"]))]  # fmt: skip
    if content.get("ratings"):
        head = ("sheet", "organ", "ratings", "live", "candidate", "p")
        rows = [[r["sheet"], r["organ"], r["pairs"], _num(r["live"], 2), _num(r["candidate"], 2),
                 _num(r["p"])] for r in content["ratings"]]  # fmt: skip
        parts += ["<h2>Blinded ratings, 1 (not usable) to 5 (as it is)</h2>", html_table(head, rows)]
    return html_page(f"Gate: {content['verdict']}", parts, _STYLE)


def render_pdf(content: Mapping[str, Any]) -> bytes:
    """The gate as a PDF of A4 pages; the same content gives the same bytes.

    Parameters
    ----------
    content : of the gate file
    """
    lines = [f"Gate of {content['site']}: {content['verdict']}", "", *_facts(content), ""]
    if content["reasons"]:
        lines += ["Reasons", *(f"- {reason}" for reason in content["reasons"]), ""]
    for row in content["organs"]:
        cells = _organ_cells(row)
        lines.append(f"{cells[0]}: {cells[1]}, {cells[2]} patients")
        lines.append(
            f"    Dice {cells[3]} -> {cells[4]}, difference {cells[5]} (at least {cells[6]}); surface Dice"
            f" {cells[7]} (at least {cells[8]}); worst HD95 {cells[9]} -> {cells[10]} mm;"
            f" new misses {cells[11]}, newly implausible {cells[12]}"
        )
    for row in content["new_organs"]:
        lines.append(
            f"{row['organ']}: new, {row['scans']} scans, mean Dice {_num(row['mean_dice'])},"
            f" missed {row['missed']}"
        )
    if content["subgroups"]:
        lines += ["", "Kinds of scans: shown, and part of no verdict"]
        for row in content["subgroups"]:
            cells = _subgroup_cells(row)
            lines.append(
                f"    {cells[0]} {cells[1]}, {cells[2]}: {cells[3]} patients, difference {cells[4]}"
                f" (at least {cells[5]}), {cells[6]}"
            )
    if content.get("ratings"):
        lines += ["", "Blinded ratings, 1 (not usable) to 5 (as it is)"]
        lines += [
            f"    {r['organ']}, sheet {r['sheet']}: {r['pairs']} scans, {_num(r['live'], 2)} ->"
            f" {_num(r['candidate'], 2)}, p {_num(r['p'])}"
            for r in content["ratings"]
        ]
    return text_pdf(f"Gate: {content['verdict']}", datetime.fromisoformat(content["created"]), lines)


def _facts(content: Mapping[str, Any]) -> list[str]:
    """What was compared, on what, and how sure one can be."""
    scans, live, candidate = content["scans"], content["live"], content["candidate"]
    known = scans["training_known"]
    lines = [
        f"Live: {live['name']} version {live['version']}, sha256 {live['sha256']}",
        f"Candidate: {candidate['name']} version {candidate['version']}, sha256 {candidate['sha256']}",
        f"{scans['patients']} patients: {scans['locked']} locked scans, {scans['out_of_fold']} out of fold",
        f"Begun {content['begun']}, made {content['created']}",
        f"By orgseg_node {content['program']}, {content['method']}",
        f"Organs as the node sends them with the protocol {content['protocol']['name']}",
        content["power"]["sentence"],
    ]
    if not known["candidate"]:
        lines.append("The candidate does not say what it was trained on: leaks cannot be found.")
    if scans["live_has_seen_locked"]:
        lines.append(
            f"The live model was trained on {scans['live_has_seen_locked']} of the locked scans,"
            " which is in its favour."
        )
    lines += [
        f"{one['case']} was refused: {', '.join(f'{k} {v}' for k, v in one.items() if k != 'case')}"
        for one in scans["refused"]
    ]
    return lines


def _organ_cells(row: Mapping[str, Any]) -> list[Any]:
    tail = row["tail"]
    same = " (same network)" if row["unchanged"] else ""
    return [
        row["organ"], f"{row['verdict']}{same}", row["dice"]["patients"], _num(row["live_dice"]),
        _num(row["candidate_dice"]), _signed(row["dice"]["mean"]), _signed(row["dice"]["low"]),
        _signed(row["surface_dice"]["mean"]), _signed(row["surface_dice"]["low"]), _num(tail["live_mm"], 1),
        _num(tail["candidate_mm"], 1), len(row["new_misses"]), len(row["new_implausible"]),
        _num(row["superiority_p"]),
    ]  # fmt: skip


def _subgroup_cells(row: Mapping[str, Any]) -> list[Any]:
    dice = row["dice"]
    return [
        row["kind"], row["value"], row["organ"], dice["patients"], _signed(dice["mean"]),
        _signed(dice["low"]), row["shown"],
    ]  # fmt: skip


def _num(value: float | None, digits: int = 3) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _signed(value: float | None) -> str:
    return "-" if value is None else f"{value:+.3f}"
