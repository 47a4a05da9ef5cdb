"""Routing rules: the first that applies decides, and all mistakes are reported at once."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset

from orgseg_node.errors import ConfigError
from orgseg_node.node.config.load import load_config
from orgseg_node.node.config.node_config import NodeConfig
from orgseg_node.node.config.rules import Action, Rule
from orgseg_node.node.routing.decision import Decision, decide
from orgseg_node.node.routing.facts import SeriesFacts
from orgseg_node.node.routing.revision import revision_of
from orgseg_node.shipped import shipped_config

BASE = """
[node]
also_called = ["ORGSEG_HN", "ORGSEG_PELVIS"]
[[peers]]
ae_title = "CT"
[destinations.tps]
ae_title = "TPS"
host = "10.0.0.1"
port = 104
[destinations.pacs]
ae_title = "PACS"
host = "10.0.0.2"
port = 104
"""
RULES = """
[[rule]]
name = "few"
action = "ignore"
when.slices = { less_than = 10 }
[[rule]]
name = "child"
action = "hold"
when.age = { less_than = 18 }
[[rule]]
name = "head"
when.called_ae = "ORGSEG_HN"
when.body_part = ["HEAD", "NECK"]
protocol = "head_and_neck"
bundles = ["one", "two"]
destinations = ["pacs"]
priority = "urgent"
[[rule]]
name = "review"
when.body_part = "NECK"
review = true
priority = 7
[[rule]]
name = "keep"
when.SeriesDescription = { like = "*test*" }
destinations = []
"""


def load(folder: Path, rules: str = RULES, base: str = BASE) -> NodeConfig:
    (folder / "rules.toml").write_text(rules, encoding="utf-8")
    (folder / "node.toml").write_text(base + '[rules]\nfile = "rules.toml"\n', encoding="utf-8")
    return load_config(folder / "node.toml")


def decision_for(config: NodeConfig, *, slices: int = 50, called: str = "ORGSEG", **values: str) -> Decision:
    dataset = Dataset()
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    facts = SeriesFacts(header=dataset, slices=slices, called_ae=called, calling_ae="CT")
    return decide(config, facts).decision


@pytest.mark.parametrize(
    ("given", "rule", "action"),
    [
        ({"slices": 9, "PatientAge": "005Y"}, "few", Action.IGNORE),
        ({"PatientAge": "005Y", "called": "ORGSEG_HN", "BodyPartExamined": "NECK"}, "child", Action.HOLD),
        ({"called": "ORGSEG_HN", "BodyPartExamined": "NECK"}, "head", Action.CONTOUR),
        ({"called": "ORGSEG_PELVIS", "BodyPartExamined": "NECK"}, "review", Action.CONTOUR),
        ({"called": "ORGSEG_HN", "BodyPartExamined": "CHEST"}, "default", Action.CONTOUR),
        ({"SeriesDescription": "a Test"}, "keep", Action.CONTOUR),
        ({}, "default", Action.CONTOUR),
    ],
)
def test_the_first_rule_that_applies_decides(
    tmp_path: Path, given: dict[str, Any], rule: str, action: Action
) -> None:
    decision = decision_for(load(tmp_path), **given)
    assert (decision.rule, decision.action) == (rule, action)


def test_a_rule_sets_some_settings_and_leaves_the_others_to_the_node(tmp_path: Path) -> None:
    config = load(tmp_path)
    head = decision_for(config, called="ORGSEG_HN", BodyPartExamined="HEAD")
    assert (head.protocol, head.bundles, head.destinations) == ("head_and_neck", ("one", "two"), ("pacs",))
    assert (head.priority, head.review) == (10, False)
    review = decision_for(config, BodyPartExamined="NECK")
    assert (review.protocol, review.bundles) == ("default", ("starter-hn",))
    assert (review.destinations, review.priority, review.review) == (("tps", "pacs"), 7, True)
    assert decision_for(config, SeriesDescription="test").destinations == ()
    assert decision_for(config).priority == 50


def test_a_series_without_a_rule_is_held_if_configured(tmp_path: Path) -> None:
    config = NodeConfig.model_validate(
        {
            "peers": [{"ae_title": "CT"}],
            "rules": {"otherwise": "hold"},
            "rule": [{"name": "x", "when": {"slices": 1}}],
        }
    )
    assert (decision_for(config).rule, decision_for(config).action) == ("default", Action.HOLD)
    assert decision_for(config, slices=1).action is Action.CONTOUR


def test_a_rule_on_an_unknown_ae_title_holds_the_series(tmp_path: Path) -> None:
    config = load(tmp_path)
    unknown = decision_for(config, called="", BodyPartExamined="NECK")
    assert (unknown.rule, unknown.action, unknown.undecided) == ("head", Action.HOLD, True)
    assert decision_for(config, called="", BodyPartExamined="CHEST").rule == "default", "it cannot fit anyway"


def test_an_explanation_names_the_first_condition_that_failed_of_every_earlier_rule(tmp_path: Path) -> None:
    facts = SeriesFacts(header=Dataset(), slices=50, called_ae="ORGSEG", calling_ae="CT")
    found = decide(load(tmp_path), facts)
    reasons = [(m.rule, m.condition.subject.name, m.condition.expected) for m in found.unmatched]
    assert reasons == [
        ("few", "slices", "less than 10"),
        ("child", "age", "less than 18"),
        ("head", "called_ae", "'ORGSEG_HN'"),
        ("review", "body_part", "'NECK'"),
        ("keep", "SeriesDescription", "like '*test*'"),
    ]


def test_all_problems_of_rules_and_other_settings_are_reported_at_once(tmp_path: Path) -> None:
    rules = """
rules = 3
[[rule]]
name = "always"
[[rule]]
name = "default"
when.slices = { at_mots = 3 }
destination = ["tps"]
destinations = ["tsp"]
priority = "soon"
review = "yes"
[[rule]]
name = "always"
action = "ignore"
protocol = "default"
when.called_ae = ["ORGSEG_HM", "ORGSEG"]
bundles = ["a", "a"]
[[rule]]
name = "a b"
action = "drop"
when.PatientsName = "x"
"""
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, rules, BASE + "[receiver]\nmax_pdus = 5\n")
    for line in (
        "rules.toml: rules: there is no such setting; did you mean 'rule'?",
        "rule.1: without a condition it applies to every series; no rule after it is used",
        "rule.2.name: 'default' is the name of the implicit last rule; choose another",
        "rule.2.when: slices: there is no test 'at_mots'; did you mean 'at_most'?",
        "rule.2.destination: there is no such setting; did you mean 'destinations'?",
        "rule.2.destinations: there is no 'tsp'; did you mean 'tps'?",
        "rule.2.priority: one of urgent, high, normal, low, or a number from 0 (first) to 1000, not 'soon'",
        "rule.2.review: input should be a valid boolean, not 'yes'",
        "rule: the name 'always' is given twice",
        "rule.3.protocol: has no effect, because the series is not contoured",
        "rule.3.bundles: named twice: a",
        "rule.3.when.called_ae: there is no 'ORGSEG_HM'; did you mean 'ORGSEG_HN'?",
        "rule.4.name: a name has up to 32 letters, digits, '-' or '_'",
        "rule.4.action: input should be 'contour', 'hold' or 'ignore', not 'drop'",
        "rule.4.when: PatientsName: there is no such attribute; did you mean 'PatientName'?",
        "receiver.max_pdus: there is no such setting; did you mean 'max_pdu'?",
    ):
        assert line in caught.value.detail


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ('[rules]\nfile = "absent.toml"', "rules.file: "),
        ('[rules]\notherwise = "drop"', "rules.otherwise: input should be 'contour' or 'hold'"),
        ('[rules]\nfile = "broken"', "is not TOML"),
        ('[rules]\nfile = "fine.toml"\n[[rule]]\nname = "x"\n', "in this file or in that one, not in both"),
        ('[rules]\nfiles = "x"', "did you mean 'file'?"),
        ('[[rule]]\nnane = "x"', "rule.1.name: is missing"),
        ("rule = 3", "rule"),
    ],
)
def test_problems_of_the_file_of_rules_are_reported(tmp_path: Path, text: str, line: str) -> None:
    (tmp_path / "broken").write_text("[[rule")
    (tmp_path / "fine.toml").write_text("")
    (tmp_path / "node.toml").write_text(f"{text}\n[[peers]]\nae_title = 'CT'\n")
    with pytest.raises(ConfigError) as caught:
        load_config(tmp_path / "node.toml")
    assert line in caught.value.detail


def test_rules_may_be_in_the_configuration_and_paths_are_relative_to_their_file(
    tmp_path: Path,
) -> None:
    one = '[[rule]]\nname = "x"\nprotocol = "own.toml"\n'
    (tmp_path / "node.toml").write_text(one + '[[peers]]\nae_title = "CT"\n')
    assert load_config(tmp_path / "node.toml").rule[0].protocol == str(tmp_path / "own.toml")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "rules.toml").write_text(one)
    (tmp_path / "node.toml").write_text('[rules]\nfile = "sub/rules.toml"\n[[peers]]\nae_title = "CT"\n')
    assert load_config(tmp_path / "node.toml").rule[0].protocol == str(tmp_path / "sub" / "own.toml")


def test_the_shipped_rules_and_the_suggested_ones_are_valid(tmp_path: Path) -> None:
    text = shipped_config("rules.toml").read_text(encoding="utf-8")
    assert load(tmp_path, text).rule == ()
    suggested = re.sub(r"^# ", "", text[text.index("# [[rule]]") :], flags=re.MULTILINE)
    base = BASE.replace("ORGSEG_PELVIS", "ORGSEG_URGENT")
    names = [rule.name for rule in load(tmp_path, suggested, base).rule]
    assert names == ["few-images", "children", "emergency", "pelvis", "trial"]


def test_a_revision_changes_with_settings_rules_and_protocols(tmp_path: Path) -> None:
    own = tmp_path / "own.toml"
    own.write_text('others = "keep"\n')
    rules = '[[rule]]\nname = "x"\nwhen.slices = 3\nprotocol = "own.toml"\n'
    seen = [revision_of(load(tmp_path, rules)), revision_of(load(tmp_path, rules.replace("3", "4")))]
    seen.append(revision_of(load(tmp_path, rules, BASE.replace("10.0.0.2", "10.0.0.3"))))
    assert revision_of(load(tmp_path, rules)) == seen[0]
    own.write_text('others = "drop"\n')
    seen.append(revision_of(load(tmp_path, rules)))
    own.unlink()
    seen.append(revision_of(load(tmp_path, rules)))
    assert len(set(seen)) == 5
    assert all(len(one) == 16 for one in seen)


def test_a_rule_cannot_be_changed_and_its_priority_may_be_a_number() -> None:
    rule = Rule.model_validate({"name": "x", "priority": 12})
    assert rule.priority == 12
    with pytest.raises(ValueError, match="frozen"):
        rule.priority = 1  # type: ignore[misc]
    for wrong in (-1, 1001, True, 5.5):
        with pytest.raises(ValueError, match="a number from 0"):
            Rule.model_validate({"name": "x", "priority": wrong})
