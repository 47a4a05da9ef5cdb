"""The risk table: hazards, controls, the tests that prove them, and whether these were run and passed."""

from __future__ import annotations

import tomllib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from defusedxml import ElementTree

from orgseg_node.errors import OptionInvalid
from orgseg_node.node.dossier.blanks import blank, table
from orgseg_node.shipped import shipped_config

NOT_RUN = "not run for this dossier"


@dataclass(frozen=True, slots=True, kw_only=True)
class Risk:
    """A hazard, what the node does against it, and the tests that prove it (paths in the source)."""

    hazard: str
    control: str
    tests: tuple[str, ...]


def load_risks() -> tuple[Risk, ...]:
    """The risks that come with the node."""
    document = tomllib.loads(shipped_config("risks.toml").read_text(encoding="utf-8"))
    return tuple(
        Risk(hazard=row["hazard"], control=row["control"], tests=tuple(row["tests"]))
        for row in document["risk"]
    )


def read_results(path: Path) -> Mapping[str, Counter[str]]:
    """How many tests of each module passed, failed or were skipped, from the JUnit XML of pytest.

    Raises
    ------
    OptionInvalid
        If it is none.
    """
    try:
        root = ElementTree.parse(path).getroot()
    except (OSError, ElementTree.ParseError) as error:
        raise OptionInvalid(f"{path.name} is no result of 'pytest --junitxml'.") from error
    found: dict[str, Counter[str]] = {}
    for case in root.iter("testcase"):
        kinds = {child.tag for child in case}
        outcome = "failed" if kinds & {"failure", "error"} else "skipped" if "skipped" in kinds else "passed"
        module = str(case.get("classname", "")).replace(".", "/")
        found.setdefault(module, Counter())[outcome] += 1
    return found


def risk_page(risks: Sequence[Risk], results: Mapping[str, Counter[str]] | None) -> str:
    """The risk table as Markdown.

    Parameters
    ----------
    risks : hazards and controls
    results : outcome of the tests by module; None if they were not run
    """
    rows = [
        (
            risk.hazard,
            blank("S, P"),
            risk.control,
            "; ".join(f"`{test}`: {_outcome(test, results)}" for test in risk.tests),
        )
        for risk in risks
    ]
    columns = ("hazard", "severity, probability", "control", "tests and results")
    return f"""# Risks

A control counts as proven only by a test that passed with this version: {_summary(results)}
Severity and probability, and controls outside of the node (review, training), are for the hospital to state.

{table(columns, rows)}
Further hazards of this hospital: {blank("hazards, controls, residual risk, acceptance")}.
"""


def _outcome(test: str, results: Mapping[str, Counter[str]] | None) -> str:
    if results is None:
        return NOT_RUN
    name = test.removesuffix(".py")
    total: Counter[str] = Counter()
    for module, counts in results.items():
        if module == name or module.startswith(f"{name}/"):
            total += counts
    text = ", ".join(f"{count} {outcome}" for outcome, count in sorted(total.items()))
    return text or NOT_RUN


def _summary(results: Mapping[str, Counter[str]] | None) -> str:
    if results is None:
        return "no results were given (`--results`), so none is."
    total = sum(results.values(), Counter[str]())
    return f"{total['passed']} tests passed, {total['failed']} failed, {total['skipped']} were skipped."
