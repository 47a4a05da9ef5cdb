"""Importing a protocol: nothing is guessed, nothing is lost silently, and no dangerous input is processed."""

from __future__ import annotations

import shutil
import tomllib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as DicomSequence

from orgseg_node.contouring.protocol import Protocol, parse_protocol
from orgseg_node.contouring.protocol_import import ImportedProtocol, import_protocol
from orgseg_node.core.contours import trace
from orgseg_node.core.organs import OrganTable
from orgseg_node.core.regions import Region
from orgseg_node.core.volume import LabelMap
from orgseg_node.dicom.objects.rtstruct import write_rtstruct
from orgseg_node.errors import ConfigError, InputError, OrgsegError
from tests.support.ct.header_writing import put
from tests.support.ct.objects import PROVENANCE, SMALL, awkward_label_map, series_of
from tests.support.processes.once import once

TEMPLATE = """<?xml version="1.0" encoding="utf-8"?>
<StructureTemplate Version="1.1" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance">
  <Preview ID="Pelvis" Type="Structure" ApprovalStatus="Unapproved" TreatmentSite="Pelvis" />
  <Structures>
{structures}
  </Structures>
</StructureTemplate>
"""


def structure(name: str, kind: str = "Organ", color: str = "", comment: str = "") -> str:
    """One structure as templates of Eclipse have it."""
    return f"""    <Structure ID="{name}" Name="{comment}">
      <Identification><VolumeID>1</VolumeID><VolumeCode>0</VolumeCode>
        <VolumeType>{kind}</VolumeType><VolumeCodeTable /><StructureCode Code="1" CodeScheme="FMA" />
      </Identification>
      <TypeIndex>2</TypeIndex><ColorAndStyle>{color}</ColorAndStyle>
      <SearchCTLow xsi:nil="true" /><SearchCTHigh xsi:nil="true" /><EUDAlpha>1</EUDAlpha>
    </Structure>"""


def xml(*structures: str) -> bytes:
    return TEMPLATE.format(structures="\n".join(structures)).encode()


def imported(folder: Path, content: bytes, table: OrganTable) -> tuple[ImportedProtocol, Protocol]:
    """What comes of a file, and the protocol that its text is."""
    path = folder / "template.xml"
    path.write_bytes(content)
    result = import_protocol(path, table)
    protocol = parse_protocol(tomllib.loads(result.toml), "imported")
    protocol.check_organs(table)
    return result, protocol


def refusal(folder: Path, content: bytes, table: OrganTable) -> OrgsegError:
    path = folder / "template.xml"
    path.write_bytes(content)
    with pytest.raises(OrgsegError) as caught:
        import_protocol(path, table)
    return caught.value


# ---------------------------------------------------------------------- RT Structure Set


@pytest.fixture
def rtstruct(tmp_path: Path, organ_table: OrganTable) -> Path:
    """A structure set of the node itself: five organs under names of a clinic, a PRV and the outline."""
    made = once("structure-set-of-a-clinic", lambda folder: _written(folder, organ_table))
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    return tmp_path / "RTSTRUCT.dcm"


def _written(folder: Path, organ_table: OrganTable) -> Path:
    series = series_of(folder / "ct", SMALL)
    label_map = awkward_label_map(series.grid, organ_table)
    names = {"eyeball_left": ("Eye LT", (1, 2, 3)), "rectum": ("RECTUM", (250, 251, 252))}
    organs = dict(label_map.organs)
    for label, organ in organs.items():
        name, color = names.get(organ.key, (organ.name, organ.color))
        organs[label] = replace(organ, name=name, color=color)
    liver = next(label for label, organ in organs.items() if organ.key == "liver")
    prv = replace(organ_table["liver"], key="derived", name="Liver_PRV03", interpreted_type="AVOIDANCE")
    outline = replace(organ_table["body"], name="Outline", interpreted_type="EXTERNAL", color=(0, 255, 0))
    regions = [Region.of(organ, label_map.mask(liver), "made") for organ in (prv, outline)]
    named = LabelMap(grid=label_map.grid, labels=label_map.labels, organs=organs)
    order = ("rectum", "liver", "derived", "eyeball_left")
    objects = write_rtstruct(trace(named, regions=regions, order=order), series, PROVENANCE)
    objects.save_as(folder / "RTSTRUCT.dcm")
    return folder


def test_names_colours_and_order_of_a_structure_set_are_imported(
    rtstruct: Path, organ_table: OrganTable
) -> None:
    result = import_protocol(rtstruct, organ_table)
    protocol = parse_protocol(tomllib.loads(result.toml), "imported")
    protocol.check_organs(organ_table)
    found = [(entry.organ, entry.name) for entry in protocol.organs]
    assert found[:3] == [("rectum", "RECTUM"), ("liver", "Liver"), ("eyeball_left", "Eye LT")]
    assert {key for key, _ in found[3:]} == {"aorta", "kidney_right"}
    colors = {entry.organ: entry.color for entry in protocol.organs}
    assert (colors["eyeball_left"], colors["rectum"]) == ((1, 2, 3), (250, 251, 252))
    assert protocol.external is None, "to draw it takes a person's decision"
    _, _, tail = result.toml.partition("remove the # of these lines.\n")
    asked = parse_protocol(tomllib.loads(tail.replace("# ", "")), "uncommented").external
    assert asked is not None
    assert (asked.name, asked.color) == ("Outline", (0, 255, 0))
    assert result.matched["Outline"] == "body", "by its type, whatever its name"
    assert result.unmatched == ("Liver_PRV03",)
    assert "#   Liver_PRV03\n" in result.toml
    assert (protocol.derived, protocol.others) == ((), "keep")


def edited(path: Path, **changes: Any) -> Path:
    """The same structure set with attributes changed, or removed where the new value is None."""
    dataset = dcmread(path)
    for name, value in changes.items():
        if value is None:
            delattr(dataset, name)
        else:
            setattr(dataset, name, value)
    dataset.save_as(path)
    return path


def test_a_structure_set_without_colours_and_types_still_gives_its_names(
    rtstruct: Path, organ_table: OrganTable
) -> None:
    edited(rtstruct, ROIContourSequence=None, RTROIObservationsSequence=None)
    result = import_protocol(rtstruct, organ_table)
    assert result.matched["Eye LT"] == "eyeball_left"
    assert "color" not in result.toml
    assert result.unmatched == ("Liver_PRV03", "Outline")


def test_targets_are_never_organs(rtstruct: Path, organ_table: OrganTable) -> None:
    dataset = dcmread(rtstruct)
    for item in dataset.RTROIObservationsSequence:
        item.RTROIInterpretedType = "PTV"
    dataset.save_as(rtstruct)
    with pytest.raises(ConfigError, match="None of the structures"):
        import_protocol(rtstruct, organ_table)


def _roi(dataset: Dataset, name: str, sequence: str = "ROIContourSequence") -> Dataset:
    """The item of a sequence that refers to an ROI."""
    number = next(roi.ROINumber for roi in dataset.StructureSetROISequence if roi.ROIName == name)
    return next(item for item in dataset[sequence] if item.ReferencedROINumber == number)


@pytest.mark.parametrize("color", ["16711680", "255\\\\0", "255,0,0", "red", "", "1\\2\\x", "1e999\\0\\0"])
def test_one_odd_colour_gives_the_default_colour_of_this_structure(
    color: str, rtstruct: Path, organ_table: OrganTable
) -> None:
    dataset = dcmread(rtstruct)
    put(_roi(dataset, "Eye LT"), "ROIDisplayColor", color)
    dataset.save_as(rtstruct)
    result = import_protocol(rtstruct, organ_table)
    protocol = parse_protocol(tomllib.loads(result.toml), "imported")
    colors = {entry.organ: entry.color for entry in protocol.organs}
    assert colors["rectum"] == (250, 251, 252)
    assert colors["eyeball_left"] is None


def test_a_colour_with_decimals_is_read(rtstruct: Path, organ_table: OrganTable) -> None:
    dataset = dcmread(rtstruct)
    put(_roi(dataset, "Eye LT"), "ROIDisplayColor", "127.5\\0.0\\300")
    dataset.save_as(rtstruct)
    assert "127" in import_protocol(rtstruct, organ_table).toml


def _no_name(dataset: Dataset) -> None:
    del dataset.StructureSetROISequence[0].ROIName


def _empty_name(dataset: Dataset) -> None:
    dataset.StructureSetROISequence[0].ROIName = ""


def _no_number(dataset: Dataset) -> None:
    del dataset.StructureSetROISequence[0].ROINumber


def _item_without_number(dataset: Dataset) -> None:
    for sequence in (dataset.ROIContourSequence, dataset.RTROIObservationsSequence):
        sequence.append(Dataset())


@pytest.mark.parametrize("change", [_no_name, _empty_name, _no_number, _item_without_number])
def test_one_damaged_roi_does_not_refuse_the_others(
    change: Callable[[Dataset], None], rtstruct: Path, organ_table: OrganTable
) -> None:
    dataset = dcmread(rtstruct)
    change(dataset)
    dataset.save_as(rtstruct)
    result = import_protocol(rtstruct, organ_table)
    assert {"aorta", "kidney_right", "liver", "eyeball_left"} <= set(result.matched.values())
    if "name" in change.__name__:
        assert "(without a name) number 1" in result.unmatched


@pytest.mark.parametrize("name", ["Li\\ver", "Liver\\", "\\Liver", "Liver\\Liver"])
def test_a_backslash_in_a_name_is_kept_and_matches_nothing(
    name: str, rtstruct: Path, organ_table: OrganTable
) -> None:
    dataset = dcmread(rtstruct)
    roi = next(roi for roi in dataset.StructureSetROISequence if roi.ROIName == "Liver")
    put(roi, "ROIName", name)
    dataset.save_as(rtstruct)
    result = import_protocol(rtstruct, organ_table)
    assert name in result.unmatched
    assert "liver" not in result.matched.values()
    assert "[" not in "".join(result.matched) + "".join(result.unmatched)


def test_a_structure_of_a_template_without_a_name_is_listed(tmp_path: Path, organ_table: OrganTable) -> None:
    result, _ = imported(tmp_path, xml(structure(""), structure("Liver")), organ_table)
    assert (tuple(result.matched), result.unmatched) == (("Liver",), ("(without a name) number 1",))


def test_damaged_structure_sets_and_other_objects_are_refused(
    rtstruct: Path, tmp_path: Path, organ_table: OrganTable
) -> None:
    nameless = rtstruct.with_name("nameless.dcm")
    nameless.write_bytes(rtstruct.read_bytes())
    cases = [
        (edited(nameless, StructureSetROISequence=DicomSequence([Dataset()])), "damaged"),
        (edited(rtstruct, StructureSetROISequence=None), "no structure"),
        (next((tmp_path / "ct").glob("*.dcm")), "no RT Structure Set"),
    ]
    for path, words in cases:
        with pytest.raises(InputError) as caught:
            import_protocol(path, organ_table)
        assert words in caught.value.detail


# ---------------------------------------------------------------------- structure templates


def test_names_colours_and_order_of_a_template_are_imported(tmp_path: Path, organ_table: OrganTable) -> None:
    content = xml(
        structure("PTV", "PTV", "#ff0000"),
        structure("Bladder", color="255, 255, 0"),
        structure("Kidney L", color="#0A0b0C"),
        structure("Outer", "External"),
        structure("Rectum", color="Segment - brown"),
        structure("Rectum_PRV05", "Avoidance"),
        structure("FemoralHead R", "AVOIDANCE", "[1] 2 3"),
        structure("Liver", "Treated Volume"),
    )
    result, protocol = imported(tmp_path, content, organ_table)
    assert [(entry.organ, entry.name, entry.color) for entry in protocol.organs] == [
        ("urinary_bladder", "Bladder", (255, 255, 0)),
        ("kidney_left", "Kidney L", (10, 11, 12)),
        ("rectum", "Rectum", None),
        ("femoral_head_right", "FemoralHead R", (1, 2, 3)),
    ]
    assert protocol.external is None
    assert '# name = "Outer"\n' in result.toml
    assert result.unmatched == ("PTV", "Rectum_PRV05", "Liver")


@pytest.mark.parametrize("style", ["facade", "Decade 1", "Style 1 2 3 4", "999999999 1 2", "12", "١ ٢ ٣"])
def test_style_names_are_not_colours(style: str, tmp_path: Path, organ_table: OrganTable) -> None:
    _, protocol = imported(tmp_path, xml(structure("Liver", color=style)), organ_table)
    assert protocol.organs[0].color is None


def test_an_organ_that_is_there_twice_is_taken_once(tmp_path: Path, organ_table: OrganTable) -> None:
    content = xml(*map(structure, ("Lung L", "Lung_L", "LUNG L", "Liver")))
    result, protocol = imported(tmp_path, content, organ_table)
    assert [entry.name for entry in protocol.organs] == ["Lung L", "Liver"]
    assert result.unmatched == ("Lung_L", "LUNG L")


def test_one_name_for_two_things_is_taken_once(tmp_path: Path, organ_table: OrganTable) -> None:
    content = xml(structure("Liver", "External"), structure("liver"))
    result, protocol = imported(tmp_path, content, organ_table)
    assert protocol.organs == ()
    assert result.unmatched == ("liver",)


@pytest.mark.parametrize("name", ["A" * 70, "Lung&#10;left&#9;", "tab\tin it", "x&#x7f;y", "ünïcode"])
def test_with_any_text_in_a_name_the_protocol_can_be_read(
    name: str, tmp_path: Path, organ_table: OrganTable
) -> None:
    content = xml(structure(name, "External"), structure("Liver"))
    _, protocol = imported(tmp_path, content, organ_table)
    assert protocol.organs[0].name == "Liver"


def test_names_may_be_elements_and_tags_have_a_namespace(tmp_path: Path, organ_table: OrganTable) -> None:
    content = (
        b'\xef\xbb\xbf\n <t:T xmlns:t="urn:x"><t:Structures><t:Structure><t:Name> Liver </t:Name>'
        b"<t:Color>1\\2\\3</t:Color></t:Structure><t:Structure/></t:Structures></t:T>"
    )
    _, protocol = imported(tmp_path, content, organ_table)
    assert [(entry.name, entry.color) for entry in protocol.organs] == [("Liver", (1, 2, 3))]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-8-sig", "iso-8859-1"])
def test_templates_come_in_several_encodings(encoding: str, tmp_path: Path, organ_table: OrganTable) -> None:
    declared = "utf-8" if encoding.startswith("utf-8") else encoding
    text = xml(structure("Liver"), structure("Größe")).decode().replace("utf-8", declared)
    result, protocol = imported(tmp_path, text.encode(encoding), organ_table)
    assert protocol.organs[0].name == "Liver"
    assert result.unmatched == ("Größe",)


BOMB = """<!DOCTYPE bomb [<!ENTITY a "aaaaaaaaaa">
<!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;"><!ENTITY c "&b;&b;&b;&b;&b;&b;&b;&b;&b;&b;">]>"""
OUTSIDE = '<!DOCTYPE t [<!ENTITY x SYSTEM "file:///etc/hostname">]>'


@pytest.mark.parametrize(
    ("head", "inside"),
    [
        (BOMB, "&c;"),
        (OUTSIDE, "&x;"),
        (BOMB, ""),
        ("<!DOCTYPE t>", ""),
        ('<!DOCTYPE t SYSTEM "http://example.org/t.dtd">', ""),
    ],
)
def test_document_types_and_entities_are_refused(
    head: str, inside: str, tmp_path: Path, organ_table: OrganTable
) -> None:
    content = f'{head}<T><Structure ID="Liver"><Note>{inside}</Note></Structure></T>'
    error = refusal(tmp_path, content.encode(), organ_table)
    assert isinstance(error, InputError)
    assert "not valid XML" in error.detail


@pytest.mark.parametrize(
    "content",
    [
        b"<",
        b"<a><b></a>",
        b"<html><p>unclosed</html>",
        b'<?xml version="1.0" encoding="no-such"?><T/>',
        b'<?xml version="1.0" encoding="utf-32"?><T/>',
        b"<T>\x00</T>",
        b"<T>\xff\xfe</T>",
        b"<T/>garbage",
    ],
)
def test_invalid_xml_is_refused(content: bytes, tmp_path: Path, organ_table: OrganTable) -> None:
    assert "not valid XML" in refusal(tmp_path, content, organ_table).detail


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"[structures]", b"\0" * 132 + b"DICM"])
def test_what_is_neither_is_refused(content: bytes, tmp_path: Path, organ_table: OrganTable) -> None:
    assert isinstance(refusal(tmp_path, content, organ_table), InputError)


def test_a_template_without_organs_is_reported(tmp_path: Path, organ_table: OrganTable) -> None:
    assert "lists no structure" in refusal(tmp_path, b"<T/>", organ_table).detail
    error = refusal(tmp_path, xml(structure("Xyz"), structure("PTV", "PTV")), organ_table)
    assert isinstance(error, ConfigError)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path, organ_table: OrganTable) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        import_protocol(tmp_path / "none.xml", organ_table)


def test_huge_files_are_refused_unread(tmp_path: Path, organ_table: OrganTable) -> None:
    path = tmp_path / "huge.xml"
    with path.open("wb") as file:
        file.write(b"<T>")
        file.truncate(10**9)
    with pytest.raises(InputError, match="too large"):
        import_protocol(path, organ_table)


@pytest.mark.timeout(20)
def test_deeply_nested_structures_are_read_in_linear_time(tmp_path: Path, organ_table: OrganTable) -> None:
    depth = 50_000
    content = b'<Structure ID="Liver">' * depth + b"</Structure>" * depth
    result, _ = imported(tmp_path, content, organ_table)
    assert result.matched == {"Liver": "liver"}


@pytest.mark.timeout(20)
def test_many_structures_are_read(tmp_path: Path, organ_table: OrganTable) -> None:
    rows = "".join(f'<Structure ID="Node {n}"/>' for n in range(20_000))
    content = f'<T>{rows}<Structure ID="Liver"/></T>'.encode()
    result, _ = imported(tmp_path, content, organ_table)
    assert len(result.unmatched) == 20_000
