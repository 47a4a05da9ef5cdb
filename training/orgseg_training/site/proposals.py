"""What an ROI name may mean: for certain by the dictionary, or a proposal that a person must accept.

Every meaning is held against the anatomy: the side on which the ROIs lie, and their volume.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from orgseg_node.core.naming.dictionary import NameDictionary, name_dictionary
from orgseg_node.core.naming.words import SIDE_WORDS, NameWords, split_name
from orgseg_node.core.organs import PAIRS, OrganTable, Side
from orgseg_training.site.names import NameLine
from orgseg_training.site.roi_survey import NameSurvey

_TARGETS: Final = frozenset({"PTV", "CTV", "GTV", "TREATED_VOLUME", "IRRAD_VOLUME"})
_NO_ORGANS: Final = frozenset(
    {"BOLUS", "MARKER", "ISOCENTER", "REGISTRATION", "CONTRAST_AGENT", "SUPPORT", "FIXATION", "CAVITY"}
    | {"DOSE_REGION", "DOSE_MEASUREMENT", "BRACHY_CHANNEL", "BRACHY_ACCESSORY", "BRACHY_SRC_APP"}
)
_HELP_WORDS: Final = frozenset(
    {
        "ptv",
        "ctv",
        "gtv",
        "itv",
        "igtv",
        "prv",
        "opt",
        "opti",
        "ring",
        "help",
        "hilf",
        "hilfe",
        "avoid",
        "sub",
    }
    | {"minus", "margin", "eval", "crop", "wall", "core", "couch", "table", "bolus", "iso", "isodose"}
    | {"dose", "marker", "overlap", "shell", "without", "ohne", "sans", "tisch", "boost", "tumor", "tumour"}
)
_REMARKS: Final = frozenset(
    {"ai", "auto", "new", "neu", "old", "alt", "copy", "kopie", "final", "edit", "edited", "mod", "dl", "mbs"}
    | {"tps", "z", "v", "rev", "corr", "korr", "dr", "md", "contour", "kontur"}
)
_OUTLINE: Final = "body"
_ALIKE: Final = 0.8  # of two spellings, as difflib compares them
_MOST: Final = 0.5


class Confidence(StrEnum):
    """How certain it is what a name means."""

    KNOWN = "known"
    PROPOSED = "proposed"
    NO_ORGAN = "no organ"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Meaning:
    """What a name may mean.

    Attributes
    ----------
    survey : the ROIs of the name
    organ : key of the organ table, or empty
    confidence : how certain that is
    remark : why it is not certain, or what does not fit; may be empty
    """

    survey: NameSurvey
    organ: str
    confidence: Confidence
    remark: str = ""

    @property
    def line(self) -> NameLine:
        """The line of ``names.toml``."""
        survey = self.survey
        count = f"{survey.patients} patient{'' if survey.patients == 1 else 's'}"
        seen = f"{count}, {volume_text(survey.volume_ml)} ml, {survey.place or 'no place'}"
        return NameLine(
            name=survey.name,
            organ=self.organ,
            counts=self.confidence in {Confidence.KNOWN, Confidence.NO_ORGAN},
            remark=f"{seen}; {self.remark}" if self.remark else seen,
        )


def volume_text(volume_ml: float) -> str:
    """A volume with three digits."""
    return f"{volume_ml:.0f}" if volume_ml >= 100 else f"{volume_ml:.3g}"


def meaning_of(survey: NameSurvey, table: OrganTable) -> Meaning:
    """What the ROIs of a name may mean.

    Parameters
    ----------
    survey : the ROIs of the name
    table : the organ table
    """
    if survey.types and survey.types <= _TARGETS | _NO_ORGANS:
        kind = ", ".join(sorted(survey.types)).lower()
        return Meaning(survey=survey, organ="", confidence=Confidence.NO_ORGAN, remark=kind)
    dictionary = name_dictionary(table)
    certain = dictionary.organ(survey.name)
    if survey.types == {"EXTERNAL"} or certain == _OUTLINE:
        return Meaning(survey=survey, organ="", confidence=Confidence.NO_ORGAN, remark="outline")
    if certain is not None:
        against = _contradiction(certain, survey, table)
        confidence = Confidence.PROPOSED if against else Confidence.KNOWN
        return Meaning(survey=survey, organ=certain, confidence=confidence, remark=against)
    parsed = split_name(survey.name)
    if not _HELP_WORDS.isdisjoint(parsed.words):
        return Meaning(survey=survey, organ="", confidence=Confidence.NO_ORGAN, remark="margin or help")
    organ, why = _proposal(parsed, survey, dictionary)
    against = _contradiction(organ, survey, table) if organ else ""
    if not organ or against:
        return Meaning(
            survey=survey,
            organ="",
            confidence=Confidence.UNKNOWN,
            remark=against and f"no {organ}: {against}",
        )
    return Meaning(survey=survey, organ=organ, confidence=Confidence.PROPOSED, remark=why)


def _proposal(parsed: NameWords, survey: NameSurvey, dictionary: NameDictionary) -> tuple[str, str]:
    """A key and why it is proposed; empty if there is nothing to propose."""
    words = tuple(word for word in parsed.words if not word.isdecimal() and word not in _REMARKS)
    if not words or len(parsed.sides) > 1:
        return "", ""
    side = parsed.side
    candidates = dict(dictionary.families(words))
    why = "the name says more than the organ" if words != parsed.words or parsed.is_variant else ""
    if not candidates:
        stem, stuck = _without_stuck_side(words, dictionary)
        if stem and side is None:
            candidates, side, why = dict(dictionary.families((stem,))), stuck, "side and organ in one word"
    if not candidates:
        joined = "".join(words)
        near = difflib.get_close_matches(joined, list(dictionary.families_by_spelling()), n=1, cutoff=_ALIKE)
        if near:
            candidates, why = dict(dictionary.families_by_spelling()[near[0]]), f"similar to {near[0]}"
    found = {key for family in candidates if (key := dictionary.member(family, side))}
    if not found and side is None:  # one of two sides: the place says which
        lies = _side_of(survey)
        found = {key for family in candidates if lies and (key := dictionary.member(family, lies))}
        why = f"no side in the name, lies on the {lies}" if lies else why
    return (found.pop(), why or "not certain") if len(found) == 1 else ("", "")


def _without_stuck_side(words: tuple[str, ...], dictionary: NameDictionary) -> tuple[str, Side | None]:
    """A word without a side that is written together with it, such as ``parotisre``."""
    joined = "".join(words)
    for ending, side in SIDE_WORDS.items():
        for stem in (joined.removesuffix(ending), joined.removeprefix(ending)):
            if stem != joined and dictionary.families((stem,)):
                return stem, side
    return "", None


def _side_of(survey: NameSurvey) -> Side | None:
    """The side on which all ROIs of a name lie."""
    seen = [side for side, count in survey.on_side().items() if count]
    return Side(seen[0]) if len(seen) == 1 and seen[0] != "middle" else None


def _contradiction(organ: str, survey: NameSurvey, table: OrganTable) -> str:
    """Why most ROIs of a name cannot be an organ; empty if they can."""
    row = table[organ]
    count = len(survey.rois)
    sides = {side for pair in PAIRS.values() for side in pair}
    if organ in sides and row.side is not None:
        other = Side.RIGHT if row.side is Side.LEFT else Side.LEFT
        wrong = survey.on_side()[other]
        if wrong > _MOST * count:
            return f"lies on the {other} in {wrong} of {count}"
    if row.volume_ml is not None and count:
        smallest, largest = row.volume_ml
        if not smallest / 2 <= survey.volume_ml <= largest * 2:
            return f"{volume_text(survey.volume_ml)} ml, {organ} has {smallest:g} to {largest:g}"
    return ""
