"""One dictionary of names for models, structure sets, protocols and training; sides are never exchanged."""

from __future__ import annotations

from pathlib import Path

import pytest

from orgseg_node.contouring.protocol_import import import_protocol
from orgseg_node.core.naming.dictionary import load_synonyms, name_dictionary
from orgseg_node.core.organs import OrganTable
from orgseg_node.errors import ConfigError
from orgseg_node.inference.bundles.matching import organ_of_name
from orgseg_node.shipped import shipped_config
from orgseg_training.datasets.description import load_data_set
from orgseg_training.datasets.organ_names import organ_names

# fmt: off
KNOWN = {
    "parotid_left": (
        "Parotid_L", "Parotid L", "PAROTIS LI", "Parotis links", "lt parotid", "L Parotid", "ParotidL",
        "Parotid_Lt", "parotid gland l", "Gl_Parotis_L", "Gl. parotis li.", "Glnd_Parotid_L", "PAROTID_LEFT",
        "Left Parotid Gland", "Parotide G", "parotide gauche", "parótida izq", "Parótida I", "parotide sin.",
        "Parotide sx", "parótida esq", "oar_Parotid_L", "ślinianka przyuszna lewa", "LParotid",
        "linkerparotis", "Ohrspeicheldrüse links", "parotid_left",
    ),
    "parotid_right": (
        "Parotid_R", "PAROTIS RE", "Parotis rechts", "rt parotid", "R Parotid", "RightParotid", "Parotide D",
        "parotide droite", "parótida dcha", "Parotide dx", "parótida direita", "Parotis re.", "Parotid (R)",
        "ślinianka przyuszna prawa", "PAROTID GLAND RT", "Parotid rt.",
    ),
    "parotids": ("Parotids", "Parotiden", "Parotis bds", "parotid glands"),
    "spinal_cord": (
        "SpinalCord", "Spinal Cord", " spinal cord ", "SPINALCORD", "Cord", "Myelon", "Rueckenmark",
        "Rückenmark", "RÜCKENMARK", "Moelle", "moelle épinière", "médula", "midollo spinale", "ruggenmerg",
        "rdzeń kręgowy", "Ruckenmark", "Ru\u0308ckenmark",
    ),
    "spinal_canal": ("SpinalCanal", "Spinal_Canal", "CordCanal", "Spinalkanal", "canal médullaire"),
    "brainstem": ("Brainstem", "Brain Stem", "BrainStem", "Hirnstamm", "tronc cérébral", "pień mózgu"),
    "esophagus": ("Oesophagus", "Ösophagus", "ÖSOPHAGUS", "œsophage", "Esoph", "esófago", "Speiseröhre"),
    "cervical_esophagus": ("Esophagus_S",),
    "mandible": ("Mandible", "Bone_Mandible", "Mandibula", "Unterkiefer", "Jaw", "żuchwa"),
    "supraglottic_larynx": ("Larynx_SG",),
    "femoral_head_left": (
        "Femur_Head_L", "FemoralHead_L", "Fem head lt", "Caput femoris li", "Head of femur left", "FemHeadL",
        "Femurkopf links", "tête fémorale G", "Cabeza femoral izq.", "testa femorale sx", "Left femoral head",
    ),
    "kidney_right": (
        "Kidney_R", "Rt Kidney", "Niere re", "rein droit", "Rein D", "Riñón D", "rene dx", "Rim direito",
        "Nerka P", "nerka prawa", "rechternier", "KIDNEY_RIGHT",
    ),
    "lung_left": ("Lung_L", "Lung-Left", "LungL", "Lunge links", "Poumon G", "Polmone sin", "linkerlong"),
    "lungs": ("Lungs", "Lunge bds", "Lunge gesamt", "Lungs_Total", "Poumons", "płuca"),
    "heart": ("Heart", "Herz", "cœur", "coeur", "corazón", "serce"),
    "liver": ("Liver", "Leber", "foie", "hígado", "fegato", "wątroba", "lever", "fígado"),
    "urinary_bladder": ("Bladder", "Harnblase", "vessie", "vejiga", "vescica", "blaas", "pęcherz", "bexiga"),
    "rectum": ("Rectum", "Rektum", "Enddarm", "recto", "retto", "odbytnica"),
    "small_bowel": ("Bowel_Small", "Dünndarm", "Small-Intestine", "intestin grêle"),
    "eyeball_left": ("Eye_L", "Eye L", "Globe_L", "Auge li", "œil gauche", "ojo izquierdo"),
    "lens_right": ("Lens_R", "Linse re", "cristallin droit", "Eye lens rt"),
    "optic_nerve_right": ("OpticNrv_R", "Optic Nerve R", "N. opticus re", "Nerf optique D", "Sehnerv rechts"),
    "optic_chiasm": ("OpticChiasm", "Chiasma", "optic chiasm"),
    "submandibular_gland_left": ("Glnd_Submand_L", "Gl. submandibularis li", "SMG_L", "Submandibular_L"),
    "adrenal_gland_right": ("Glnd_Adrenal_R", "Adrenal R", "Nebenniere re"),
    "prostate": ("Prostate", "Prostata", "próstata"),
    "heart_atrium_left": ("Atrium_L", "left atrium"),
    "left_anterior_descending_artery": ("A_LAD", "LAD", "Left anterior descending"),
    "body": ("BODY", "External", "Körper"),
    "skin": ("Skin",),
    "aorta": ("A_Aorta", "Aorta"),
    "whole_bones": ("Bone", "Bones"),
}
UNCERTAIN = (
    "Parotid", "Kidney", "Eye", "Lens", "Liver_L", "Lung_L_R", "Left Right Lung", "Lung L in PTV", "Left",
    "L", "", " ", "PTV", "GLND_PAROTID_L~1", "Parotid_L_1", "z_Parotid_L", "zLung_L", "_Lung_L",
    "Parotid_L_AI",
    "Parotid_L PRV", "SpinalCord_PRV05", "PRV Cord", "Cord_PRV", "Cord+5mm", "Cord 5", "BrainstemPRV",
    "Brainstem_Core", "Ring Liver", "Liver_opti", "Opt Liver", "help_liver", "Avoid Rectum", "Lung_L~",
    "Lung_R^Clinic", "Lungs-GTV", "Larynx_Glottic", "GSL", "Anorectum", "Hip_L", "Hip", "Hip_Left", "Bulbus",
    "Lüng L", "Niere D", "Parotis G", "Herz-LAD", "CTV LUNG L", "Couch Surface", "Kidney_L old", "Medulla",
    "Brain\\Stem", "Lung_L\\",
)
# fmt: on


@pytest.mark.parametrize(("key", "name"), [(key, name) for key, names in KNOWN.items() for name in names])
def test_names_in_use_mean_their_organ(key: str, name: str, organ_table: OrganTable) -> None:
    assert name_dictionary(organ_table).organ(name) == key


@pytest.mark.parametrize("name", UNCERTAIN)
def test_what_is_not_certain_is_no_organ(name: str, organ_table: OrganTable) -> None:
    assert name_dictionary(organ_table).organ(name) is None


def test_every_organ_is_found_by_its_own_names(organ_table: OrganTable) -> None:
    dictionary = name_dictionary(organ_table)
    for key, organ in organ_table.items():
        names = (organ.name, organ.name.upper(), organ.name.replace("_", " "), organ.name.replace("_", "-"))
        assert {dictionary.organ(name) for name in names} == {key}, key
        if "hip" not in key.split("_")[0]:
            assert dictionary.organ(key) == dictionary.organ(key.replace("_", " ")) == key


def test_no_word_means_two_organs(organ_table: OrganTable) -> None:
    for spelled, families in name_dictionary(organ_table).families_by_spelling().items():
        one_and_both = {"bonepelvic": {"hip", "hips"}, "rib": {"rib", "ribs"}}  # TG-263 names both like one
        assert len(families) == 1 or set(families) == one_and_both[spelled], spelled


def test_every_synonym_belongs_to_an_organ_of_the_table(organ_table: OrganTable) -> None:
    sided = {key.removesuffix("_left") for key in organ_table if key.endswith("_left")}
    assert set(load_synonyms(shipped_config("organ_names.toml"))) <= sided | set(organ_table)


@pytest.mark.parametrize(
    "name", ["PAROTIS LI", "Myelon", "rein gauche", "Parotid_L PRV", "Kidney_L", "Hip_L", "Brain\\Stem"]
)
def test_models_protocols_and_training_read_a_name_alike(
    name: str, organ_table: OrganTable, tmp_path: Path
) -> None:
    key = name_dictionary(organ_table).organ(name)
    assert organ_of_name(name, organ_table) == key
    training = organ_names(load_data_set("dicom-rtstruct"), organ_table, {})
    assert training.organ(name) == key
    template = tmp_path / "template.xml"
    template.write_text(f'<S><Structure ID="{name}"/><Structure ID="Liver"/></S>')
    assert import_protocol(template, organ_table).matched.get(name) == key


def test_a_damaged_file_of_synonyms_is_a_configuration_error(tmp_path: Path) -> None:
    path = tmp_path / "names.toml"
    for content in ("[liver", 'liver = "Leber"', "[liver]\nde = 5"):
        path.write_text(content)
        with pytest.raises(ConfigError, match=r"names\.toml"):
            load_synonyms(path)
