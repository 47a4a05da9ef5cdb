"""Rules by age choose the protocol and the bundle of a cohort; without a known age no rule by age applies."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pydicom
import pytest

from tests.unit.node.routing.test_decision import Node

CHILDREN = {
    "name": "children",
    "when": {"age": {"less_than": 18}},
    "protocol": "head_and_neck",
    "bundles": ["hn-children"],
}
AGE_MISSING = {"name": "age-missing", "when": {"age": {"present": False}}, "review": True}
ADULTS = {"inference": {"bundles": ["hn-adults"]}, "contours": {"protocol": "default"}}


def push(folder: Path, attributes: dict[str, str], *rules: dict[str, Any]) -> Node:
    """A node that got one CT of a patient with these attributes."""
    node = Node(folder, *rules, **ADULTS)
    for path in node.files:
        header = pydicom.dcmread(path)
        for name in ("PatientAge", "PatientBirthDate"):
            if name in header:
                delattr(header, name)
        header.StudyDate = "20260301"
        for name, value in attributes.items():
            setattr(header, name, value)
        header.save_as(path)
    node.push()
    return node


@pytest.mark.parametrize(
    ("attributes", "rule", "protocol", "bundles"),
    [
        ({"PatientAge": "006Y"}, "children", "head_and_neck", ("hn-children",)),
        ({"PatientAge": "017M"}, "children", "head_and_neck", ("hn-children",)),
        ({"PatientBirthDate": "20080302"}, "children", "head_and_neck", ("hn-children",)),
        ({"PatientBirthDate": "20080301"}, "default", "default", ("hn-adults",)),
        ({"PatientAge": "060Y"}, "default", "default", ("hn-adults",)),
        ({}, "age-missing", "default", ("hn-adults",)),
        ({"PatientAge": ""}, "age-missing", "default", ("hn-adults",)),
        ({"PatientAge": "006Y", "PatientBirthDate": "19600301"}, "age-missing", "default", ("hn-adults",)),
    ],
)
def test_the_age_chooses_protocol_and_bundle(
    attributes: dict[str, str], rule: str, protocol: str, bundles: tuple[str, ...], tmp_path: Path
) -> None:
    job = push(tmp_path, attributes, CHILDREN, AGE_MISSING).job()
    assert (job.rule, job.protocol, job.bundles) == (rule, protocol, bundles)
    assert job.review is (rule == "age-missing")


def test_without_a_rule_for_it_a_missing_age_is_no_childs_age(tmp_path: Path) -> None:
    job = push(tmp_path, {}, CHILDREN).job()
    assert (job.rule, job.protocol, job.bundles) == ("default", "default", ("hn-adults",))
