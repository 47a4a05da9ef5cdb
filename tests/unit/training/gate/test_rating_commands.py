"""The commands of rating: what a person reads of a sheet, and which gate takes its ratings over."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from orgseg_node.inference import loading
from orgseg_node.inference.bundles.bundle import ModelBundle
from orgseg_node.inference.predictor import InferenceSettings, Predictor
from orgseg_training.cli.app import app
from orgseg_training.errors import RatingsInvalid
from tests.support.models.bundles import write_bundle
from tests.support.models.judged_site import Networks, site_of

Rated = list[dict[str, object]]


@pytest.fixture
def gate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A site of 6 patients beside the bundles ``old`` and ``new``, whose networks find the organs."""
    site_of(tmp_path / "site", patients=6)
    write_bundle(tmp_path / "old", name="old")
    write_bundle(tmp_path / "new", name="new", tile_step_size=0.4)
    networks = Networks()

    def load(bundle: ModelBundle, _organs: object, settings: InferenceSettings) -> Predictor:
        return networks.open(bundle, settings)

    monkeypatch.setattr(loading, "load_predictor", load)
    return tmp_path


def _judge(gate: Path, live: str, candidate: str, *options: str) -> Result:
    command = ["site", "judge", str(gate / "site"), str(gate / live), str(gate / candidate), *options]
    return CliRunner().invoke(app, command)


def _sheet(done: Result) -> str:
    found = re.search(r"Rating sheet (\w+):", done.output)
    assert found, done.output
    return found[1]


def _fill(gate: Path, name: str) -> Path:
    """Rate the live contours 3 and the candidate's 5, separated by semicolons."""
    lines = json.loads((gate / "site/gate/ratings" / f"key_{name}.json").read_text())["lines"]
    table = gate / "site/gate" / f"rating_{name}.csv"
    with table.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    with table.open("w", newline="", encoding="utf-8-sig") as stream:
        writer = csv.DictWriter(stream, list(rows[0]), delimiter=";")
        writer.writeheader()
        for row in rows:
            writer.writerow(row | {"rating": "3" if lines[row["code"]]["role"] == "live" else "5"})
    return table


def _ratings(file: Path) -> Rated:
    found: Rated = json.loads(file.read_text()).get("ratings", [])
    return found


def test_only_a_gate_of_the_same_two_bundles_takes_ratings_over(gate: Path) -> None:
    first = _judge(gate, "old", "new", "--rating-sheet", "3")
    name = _sheet(first)
    for file in (f"rating_{name}.html", f"rating_{name}.csv", f"ratings/key_{name}.json"):
        assert str(gate / "site/gate" / file) in first.output
    assert "must not see it" in first.output
    filled = _fill(gate, name)
    content = filled.read_bytes()
    exchanged = _judge(gate, "new", "old", "--rating-sheet", "3")
    assert _sheet(exchanged) != name
    assert filled.read_bytes() == content

    read = CliRunner().invoke(app, ["site", "ratings", str(gate / "site"), str(filled)])
    assert read.exit_code == 0, read.output
    assert f"Sheet {name}: 12 of 12 lines are rated." in read.output
    assert "liver: n 3, live 3.00, candidate 5.00" in read.output
    assert str(gate / "site/gate/ratings" / f"ratings_{name}.json") in read.output
    assert f"orgseg-train site judge {gate / 'site'} old new --key KEY" in read.output

    again = _judge(gate, "old", "new", "--out", str(gate / "g1"))
    assert f"With the ratings of {name}." in again.output
    assert [(one["sheet"], one["live"], one["candidate"]) for one in _ratings(gate / "g1/gate.json")] == [
        (name, 3, 5)
    ] * 2
    other = _judge(gate, "new", "old", "--out", str(gate / "g2"))
    assert "With the ratings" not in other.output
    assert _ratings(gate / "g2/gate.json") == []


def test_the_sheet_of_a_gate_written_elsewhere_is_read_and_a_bad_one_wipes_nothing(gate: Path) -> None:
    name = _sheet(_judge(gate, "old", "new", "--rating-sheet", "3", "--out", str(gate / "g1")))
    table = gate / "site/gate" / f"rating_{name}.csv"
    (gate / "g1" / table.name).rename(table)
    command = ["site", "ratings", str(gate / "site"), str(_fill(gate, name))]
    assert CliRunner().invoke(app, command).exit_code == 0
    kept = gate / "site/gate/ratings" / f"ratings_{name}.json"
    before = kept.read_bytes()
    table.write_text("\n".join(table.read_text().splitlines()[:-1]))
    refused = CliRunner().invoke(app, command)
    assert isinstance(refused.exception, RatingsInvalid)
    assert refused.exception.code == "TRAINING_RATINGS"
    assert kept.read_bytes() == before
