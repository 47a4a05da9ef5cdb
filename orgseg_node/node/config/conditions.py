"""Conditions of routing rules: their syntax, and whether they hold.

A condition is written as ``subject = wanted``. The subject is the keyword of a DICOM attribute, its tag as
``(gggg,eeee)``, or one of `SUBJECTS`. The operators depend on the attribute's value representation (PS3.5,
6.2): text is compared or matched with patterns; numbers, ages and dates have an order. Nothing is evaluated
as a program.
"""

from __future__ import annotations

import difflib
import fnmatch
import math
import operator
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from enum import StrEnum
from typing import Any, Final

Value = str | float | date


class Kind(StrEnum):
    """How values of an attribute are compared."""

    TEXT = "text"
    NUMBER = "a number"
    AGE = "an age in years"
    DATE = "a date"


_NUMBERS: Final = ("DS", "FD", "FL", "IS", "SL", "SS", "SV", "UL", "US", "UV")
_KINDS: Final[Mapping[str, Kind]] = {
    **dict.fromkeys(["AE", "CS", "LO", "LT", "PN", "SH", "ST", "UC", "UI", "UR", "UT"], Kind.TEXT),
    **dict.fromkeys(_NUMBERS, Kind.NUMBER),
    "AS": Kind.AGE,
    "DA": Kind.DATE,
    "DT": Kind.DATE,
}
_CASE_SENSITIVE: Final = frozenset({"AE", "UI"})
"""Value representations of texts that are compared with upper and lower case."""

_CODED_VRS: Final = frozenset({"AE", "AS", "CS", "UI", *_NUMBERS})
"""Value representations of codes and measures; others may hold any text that a person typed."""

_PATIENT_GROUP: Final = 0x0010
_PATIENT_TAGS: Final = frozenset({0x00080050, 0x00200010, 0x00120040})
"""Attributes that identify a patient: accession number, study ID, subject ID of a clinical trial."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """The subject of a condition.

    Attributes
    ----------
    name : as written in the rule
    kind : how its values are compared
    tag : the attribute; None for a subject that is not in a header
    case_sensitive : whether upper and lower case differ
    of_patient : whether its values can identify the patient; they are never shown
    may_be_shown : whether its values are codes or measures, which may be shown
    """

    name: str
    kind: Kind
    tag: int | None = None
    case_sensitive: bool = False
    of_patient: bool = False
    may_be_shown: bool = True


SUBJECTS: Final[Mapping[str, Subject]] = {
    "called_ae": Subject(name="called_ae", kind=Kind.TEXT, case_sensitive=True),
    "calling_ae": Subject(name="calling_ae", kind=Kind.TEXT, case_sensitive=True),
    "body_part": Subject(name="body_part", kind=Kind.TEXT, tag=0x00180015),
    "age": Subject(name="age", kind=Kind.AGE),
    "slices": Subject(name="slices", kind=Kind.NUMBER),
}
"""Subjects besides attributes: AE titles, body part examined, age, number of slices."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SubjectValues:
    """The values of a subject in one series.

    Attributes
    ----------
    values : those that could be read, all of one kind
    is_present : whether there is a value at all, readable or not
    is_known : False where it cannot be known, such as the called AE title of a file on the disk
    """

    values: tuple[Value, ...] = ()
    is_present: bool = False
    is_known: bool = True


_COMPARE: Final[Mapping[str, tuple[str, Callable[[Any, Any], bool]]]] = {
    "less_than": ("less than", operator.lt),
    "at_most": ("at most", operator.le),
    "more_than": ("more than", operator.gt),
    "at_least": ("at least", operator.ge),
}
_OPERATORS: Final = ("is", "in", "like", *_COMPARE, "between", "present")
_ORDERED: Final = frozenset({*_COMPARE, "between"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """One condition of a rule.

    Attributes
    ----------
    subject : whose values are tested
    present : whether there must be a value (True) or must be none (False); not tested when None
    tests : pairs of operator and operand; one and the same value must pass all of them
    """

    subject: Subject
    present: bool | None = None
    tests: tuple[tuple[str, Any], ...] = ()

    def holds(self, seen: SubjectValues) -> bool:
        """Whether it holds: one of several values is enough; without a value it does not hold."""
        if not seen.is_known:
            return False
        if self.present is not None and self.present is not seen.is_present:
            return False
        if not self.tests:
            return True
        return any(all(self._passes(name, want, value) for name, want in self.tests) for value in seen.values)

    def _passes(self, name: str, want: Any, value: Value) -> bool:
        if name in _COMPARE:
            return _COMPARE[name][1](value, want)
        if name == "between":
            return bool(want[0] <= value <= want[1])
        folded = self._fold(value)
        if name == "like":
            return any(re.match(fnmatch.translate(self._fold(one)), folded) for one in want)
        return any(self._fold(one) == folded for one in want)

    def _fold(self, value: Any) -> Any:
        return value.casefold() if isinstance(value, str) and not self.subject.case_sensitive else value

    @property
    def expected(self) -> str:
        """The tests in words; for patient data they are not shown."""
        if self.present is not None and not self.tests:
            return "a value" if self.present else "no value"
        if self.subject.of_patient:
            return "(patient data)"
        return " and ".join(_describe_test(name, want) for name, want in self.tests)


def _describe_test(name: str, want: Any) -> str:
    if name in _COMPARE:
        return f"{_COMPARE[name][0]} {_text_of_value(want)}"
    if name == "between":
        return f"between {_text_of_value(want[0])} and {_text_of_value(want[1])}"
    listed = " or ".join(map(_text_of_value, want))
    return f"like {listed}" if name == "like" else listed


def _text_of_value(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else repr(value) if isinstance(value, str) else str(value)


def parse_conditions(when: Mapping[str, Any]) -> tuple[Condition, ...]:
    """Parse the table ``when`` of a rule.

    Raises
    ------
    ValueError
        With one line for each problem.
    """
    made, problems = [], []
    for name, wanted in when.items():
        try:
            made.append(_parse(name, wanted))
        except ValueError as error:
            problems += [f"{name}: {line}" for line in str(error).splitlines()]
    if problems:
        raise ValueError("\n".join(problems))
    return tuple(made)


def _parse(name: str, wanted: Any) -> Condition:
    subject = parse_subject(name)
    table = wanted if isinstance(wanted, dict) else {"in" if isinstance(wanted, list) else "is": wanted}
    present, tests, problems = None, [], []
    if not table:
        problems.append(f"needs one of: {', '.join(_OPERATORS)}")
    for key, value in table.items():
        try:
            if key == "present":
                present = _flag(value)
            else:
                tests.append((key, _operand(subject.kind, key, value)))
        except ValueError as error:
            problems += str(error).splitlines()
    problems += _contradictions(tests, present=present) if not problems else ()
    if problems:
        raise ValueError("\n".join(problems))
    return Condition(subject=subject, present=present, tests=tuple(tests))


def parse_subject(name: str) -> Subject:
    """Find the subject of a name in a rule. Raises ValueError if a rule cannot test it."""
    if name in SUBJECTS:
        return SUBJECTS[name]
    from pydicom.datadict import dictionary_VR, tag_for_keyword  # noqa: PLC0415  # only for rules on tags

    number = re.fullmatch(r"\(?([0-9a-fA-F]{4}),?([0-9a-fA-F]{4})\)?", name)
    tag = int(number[1] + number[2], 16) if number else tag_for_keyword(name)
    if tag is None:
        raise ValueError(f"there is no such attribute{_suggestion(name)}")
    if (tag >> 16) % 2:
        raise ValueError("it is private: its meaning depends on the manufacturer; use a public one")
    try:
        vr = dictionary_VR(tag)
    except KeyError:
        raise ValueError("DICOM has no attribute with this tag") from None
    if vr == "SQ":
        raise ValueError("it is a sequence, which has no value of its own; use an attribute with a value")
    kind = _KINDS.get(vr.split(" or ")[0])
    if kind is None:
        raise ValueError(f"its values ({vr}) cannot be compared in a rule")
    return Subject(
        name=name,
        kind=kind,
        tag=tag,
        case_sensitive=vr in _CASE_SENSITIVE,
        of_patient=tag >> 16 == _PATIENT_GROUP or vr == "PN" or tag in _PATIENT_TAGS,
        may_be_shown=vr.split(" or ")[0] in _CODED_VRS,
    )


def _suggestion(name: str) -> str:
    from pydicom.datadict import DicomDictionary  # type: ignore[attr-defined]  # noqa: PLC0415

    keywords = (entry[4] for entry in DicomDictionary.values())
    near = difflib.get_close_matches(name, [*SUBJECTS, *keywords], n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


def _operand(kind: Kind, name: str, value: Any) -> Any:
    """Convert the operand of an operator to the kind of its subject. Raises ValueError."""
    _require_operator(kind, name)
    if name == "between":
        return _range(kind, value)
    if name == "in" or (name == "like" and isinstance(value, list)):
        if not isinstance(value, list) or not value:
            raise ValueError(f"'{name}' needs a list of at least one value")
        return tuple(_typed(kind, one) for one in value)
    return (_typed(kind, value),) if name in {"is", "like"} else _typed(kind, value)


def _require_operator(kind: Kind, name: str) -> None:
    """Raise ValueError if the operator does not exist, or not for this kind."""
    if name not in _OPERATORS:
        near = difflib.get_close_matches(name, _OPERATORS, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else f"; there are: {', '.join(_OPERATORS)}"
        raise ValueError(f"there is no test {name!r}{hint}")
    if name == "like" and kind is not Kind.TEXT:
        raise ValueError(f"'like' is for text, and this is {kind}")
    if name in _ORDERED and kind is Kind.TEXT:
        raise ValueError(f"'{name}' is for numbers, ages and dates, and this is text")


def _range(kind: Kind, value: Any) -> tuple[Any, Any]:
    if not isinstance(value, list) or len(value) != 2:
        raise ValueError("'between' needs a list of two values, the lower first")
    low, high = (_typed(kind, one) for one in value)
    if low > high:
        raise ValueError("'between' needs the lower value first")
    return low, high


def _typed(kind: Kind, value: Any) -> Any:
    """Convert a value of a rules file to the kind of its subject. Raises ValueError."""
    if kind is Kind.TEXT:
        if isinstance(value, str) and value.strip():
            return value.strip()
    elif kind is Kind.DATE:
        if isinstance(value, date) and not isinstance(value, datetime):
            return value
        if isinstance(value, str) and re.fullmatch(r"\d{4}-\d\d-\d\d", value):
            return date.fromisoformat(value)
    elif isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value):
        return float(value)
    form = {Kind.TEXT: "a text", Kind.DATE: "a date such as 2026-01-31"}.get(kind, kind.value)
    raise ValueError(f"needs {form}, not {value!r}")


def _flag(value: Any) -> bool:
    if value is True or value is False:
        return bool(value)
    raise ValueError(f"'present' is true or false, not {value!r}")


def _contradictions(tests: list[tuple[str, Any]], *, present: bool | None) -> Iterator[str]:
    """List combinations of tests that no value can pass."""
    if present is False and tests:
        yield "'present = false' requires that there is no value, so no other test is possible"
    low = [
        want[0] if name == "between" else want for name, want in tests if name in {*_LOWER_LIMITS, "between"}
    ]
    high = [
        want[1] if name == "between" else want for name, want in tests if name in {*_UPPER_LIMITS, "between"}
    ]
    if low and high and max(low) > min(high):
        yield "no value can pass: the lower limit is above the upper one"


_LOWER_LIMITS: Final = ("more_than", "at_least")
_UPPER_LIMITS: Final = ("less_than", "at_most")
