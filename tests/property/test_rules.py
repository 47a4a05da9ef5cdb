"""For any rules and any header: the first rule that fits decides, and the explanation agrees."""

from __future__ import annotations

import fnmatch
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataset import Dataset

from orgseg_node.node.config.node_config import NodeConfig
from orgseg_node.node.routing.decision import decide
from orgseg_node.node.routing.facts import SeriesFacts

PARTS = ("HEAD", "NECK", "CHEST", "PELVIS")
TITLES = ("ORGSEG", "ORGSEG_HN")


@st.composite
def one_test(draw: st.DrawFn, name: str) -> Any:
    """What may be wanted of a subject."""
    if name == "body_part":
        return draw(
            st.one_of(
                st.sampled_from(PARTS),
                st.lists(st.sampled_from(PARTS), min_size=1),
                st.builds(lambda p: {"like": p}, st.sampled_from(["*E*", "N?CK", "[ph]*", "X"])),
                st.builds(lambda p: {"present": p}, st.booleans()),
            )
        )
    if name == "called_ae":
        return draw(st.sampled_from(TITLES))
    number = st.integers(0, 6)
    order = st.sampled_from(["less_than", "at_most", "more_than", "at_least"])
    return draw(
        st.one_of(
            number,
            st.builds(lambda o, n: {o: n}, order, number),
            st.builds(lambda a, b: {"between": sorted((a, b))}, number, number),
        )
    )


@st.composite
def rules(draw: st.DrawFn) -> list[dict[str, Any]]:
    """A list of rules, each with at least one condition."""
    count = draw(st.integers(0, 6))
    made = []
    for number in range(count):
        names = draw(
            st.sets(st.sampled_from(["body_part", "called_ae", "slices", "SeriesNumber"]), min_size=1)
        )
        made.append({"name": f"r{number}", "when": {name: draw(one_test(name)) for name in sorted(names)}})
    return made


def fits(wanted: Any, value: Any) -> bool:
    """Whether a value is expected, computed in another way than in the node; None if there is none."""
    if isinstance(wanted, dict):
        ((name, limit),) = wanted.items()
        if name == "present":
            return limit is (value is not None)
        if value is None:
            return False
        if name == "like":
            return fnmatch.fnmatchcase(value.lower(), limit.lower())
        if name == "between":
            return bool(limit[0] <= value <= limit[1])
        below, equal = value < limit, value == limit
        return {
            "less_than": below,
            "at_most": below or equal,
            "more_than": not (below or equal),
            "at_least": not below,
        }[name]
    return value is not None and value in (wanted if isinstance(wanted, list) else [wanted])


@given(
    rules(),
    st.one_of(st.none(), st.sampled_from(PARTS)),
    st.sampled_from(TITLES),
    st.integers(0, 6),
    st.one_of(st.none(), st.integers(0, 6)),
)
def test_the_first_that_fits_decides_and_every_earlier_one_is_explained(
    listed: list[dict[str, Any]], part: str | None, title: str, slices: int, number: int | None
) -> None:
    config = NodeConfig.model_validate(
        {"node": {"also_called": [TITLES[1]]}, "peers": [{"ae_title": "CT"}], "rule": listed}
    )
    header = Dataset()
    if part is not None:
        header.BodyPartExamined = part
    if number is not None:
        header.SeriesNumber = number
    values = {"body_part": part, "called_ae": title, "slices": slices, "SeriesNumber": number}
    found = decide(config, SeriesFacts(header=header, slices=slices, called_ae=title, calling_ae="CT"))

    outcome = [
        next((name for name, wanted in rule["when"].items() if not fits(wanted, values[name])), None)
        for rule in listed
    ]
    first = outcome.index(None) if None in outcome else len(listed)
    assert found.decision.rule == (listed[first]["name"] if first < len(listed) else "default")
    assert [m.rule for m in found.unmatched] == [rule["name"] for rule in listed[:first]]
    assert [m.condition.subject.name for m in found.unmatched] == outcome[:first]
    for missed in found.unmatched:
        assert not missed.condition.holds(missed.seen)
