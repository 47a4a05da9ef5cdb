"""``orgseg models promote, shadow, rollback, history``: what one sees, and what is refused with a code."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from orgseg_node.contouring.protocol import load_protocol
from orgseg_node.inference.bundles.gate_file import model_entry, render_gate
from tests.support.node.command_line import Answer, orgseg
from tests.support.node.model_bench import FAMILY, PERSONS, ModelBench


class CommandLine:
    """A node with three versions, and the command line for it."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.node = ModelBench(folder)
        self.node.make_first_live()
        self.folder = folder
        self._capsys = capsys
        self._config = folder / "node.toml"
        persons = "\n".join(f'"{name}" = "{key}"' for name, key in self.node.config.models.persons.items())
        self._config.write_text(
            f'[node]\ndata_dir = "data"\n[[peers]]\nae_title = "CT"\n[models.persons]\n{persons}\n'
        )

    def run(self, *words: object) -> Answer:
        """Run ``orgseg models``."""
        return orgseg(self._capsys, "models", *words, "--config", self._config)

    def promote(self, person: int, version: str, *more: object) -> Answer:
        """Sign a promotion."""
        key = self.node.keys[PERSONS[person]]
        return self.run("promote", f"{FAMILY}@{version}", "--key", key, *more)

    def gate(self, content: bytes) -> Path:
        """A gate file."""
        path = self.folder / "gate.json"
        path.write_bytes(content)
        return path


@pytest.fixture
def cli(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Iterator[CommandLine]:
    made = CommandLine(tmp_path, capsys)
    yield made
    made.node.store.close()


def test_without_a_key_the_next_step_is_said(cli: CommandLine) -> None:
    answer = cli.run("promote", f"{FAMILY}@2")
    assert (answer.status, answer.code) == (2, "USAGE")
    assert "--key FILE is missing" in answer.err
    assert "orgseg models keygen FILE" in answer.err


def test_two_persons_promote_and_one_takes_it_back(cli: CommandLine) -> None:
    gate = cli.gate(cli.node.gate("2", "1"))
    first = cli.promote(0, "2", "--gate", gate)
    assert (first.status, "1 of 2" in first.out, "repeats the whole command" in first.out) == (0, True, True)
    second = cli.promote(1, "2")
    assert "live head-neck: head-neck@2" in second.out
    assert "Back: orgseg models rollback head-neck" in second.out
    back = cli.run("rollback", FAMILY, "--by", "anna", "--why", "larynx")
    assert "live head-neck: head-neck@1" in back.out
    history = json.loads(cli.run("history", FAMILY, "--json").out)
    assert {one["bundle"]: one["state"] for one in history["versions"]} == {
        "head-neck@1": "LIVE",
        "head-neck@2": "RETIRED",
    }
    assert "rollback by anna: larynx" in cli.run("history").out


def test_a_gate_with_another_protocol_than_the_node_is_said(cli: CommandLine) -> None:
    entries = {
        role: model_entry(cli.node.bundles[v].identity) for role, v in (("live", "1"), ("candidate", "2"))
    }
    for name, said in (("default", False), ("head_and_neck", True)):
        protocol = {"name": name, "sha256": load_protocol(name).sha256}
        content = {**entries, "verdict": "PASS", "reasons": [], "protocol": protocol}
        gate = cli.gate(render_gate(content, cli.node.keys[PERSONS[2]]))
        answer = cli.promote(0, "2", "--gate", gate)
        assert (answer.status, "tidied organs with the protocol" in answer.out) == (0, said), answer


def test_a_version_in_the_shadow_says_that_it_waits(cli: CommandLine) -> None:
    assert "No version runs in the shadow" in cli.run("shadow").out
    begun = cli.run("shadow", f"{FAMILY}@2", "--by", "anna")
    assert "It waits for the first scan that the live version contours." in begun.out
    (shadow,) = json.loads(cli.run("shadow", "--json").out)["shadows"]
    assert (shadow["state"], shadow["scans"], shadow["enough"]) == ("SHADOW", 0, False)
    assert shadow["phase"] == "first"
    assert "--family" in cli.run("shadow", "--stop").err
    assert "is a candidate" in cli.run("shadow", f"{FAMILY}@2", "--stop").out


def test_what_is_refused_has_a_code_and_changes_nothing(cli: CommandLine) -> None:
    entries = {
        role: model_entry(cli.node.bundles[v].identity) for role, v in (("live", "1"), ("candidate", "2"))
    }
    unsigned = render_gate({**entries, "verdict": "PASS", "reasons": []}, None)
    refused = {
        "MODEL_GATE_UNSIGNED": cli.promote(0, "2", "--gate", cli.gate(unsigned)),
        "MODEL_GATE_NOT_PASSED": cli.promote(0, "2", "--gate", cli.gate(cli.node.gate("2", "1", "FAIL"))),
        "MODEL_GATE_NOT_READ": cli.promote(0, "2", "--gate", cli.folder / "nothing.json"),
        "MODEL_GATE_DAMAGED": cli.promote(0, "2", "--gate", cli.node.keys[PERSONS[0]]),
        "MODEL_NOT_PROVEN": cli.promote(0, "2"),
        "BUNDLE_UNKNOWN": cli.promote(0, "9", "--gate", cli.gate(cli.node.gate("2", "1"))),
        "MODEL_NO_EARLIER_VERSION": cli.run("rollback", FAMILY),
        "MODEL_NO_LIVE_VERSION": cli.run("rollback", "pelvis"),
        "no family 'pelvis'; there are head-neck.": cli.run("history", "pelvis"),
        "no family 'pelvix'; there are head-neck.": cli.run("shadow", "--family", "pelvix"),
    }
    for code, answer in refused.items():
        assert (answer.status, code in answer.err) == (1, True), (code, answer)
    assert "families with a live version: head-neck." in refused["MODEL_NO_LIVE_VERSION"].err
    assert "--why" in cli.promote(0, "2", "--override").err
    assert cli.node.live() == [f"{FAMILY}@1"]
