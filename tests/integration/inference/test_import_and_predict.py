"""Trained nnU-Net folders become bundles through the real converter, and give nnU-Net's own labels."""

from __future__ import annotations

import json
import os
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK
import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from numpy.typing import NDArray
from safetensors.torch import save_file
from scipy.ndimage import gaussian_filter

from orgseg_node.core.body import Body
from orgseg_node.core.geometry import Box, Grid
from orgseg_node.core.organs import OrganTable
from orgseg_node.core.volume import Volume
from orgseg_node.errors import (
    BundleExists,
    BundleHashMismatch,
    BundleInvalid,
    EnvironmentFault,
    InferenceFailed,
    ModelNotImportable,
    OrganUnknown,
    OutOfMemory,
)
from orgseg_node.inference.backends.context import coded_errors
from orgseg_node.inference.backends.convert import convert
from orgseg_node.inference.backends.convert import main as convert_main
from orgseg_node.inference.backends.network import build_network, load_weights, open_plans
from orgseg_node.inference.bundles.bundle import ModelBundle, file_sha256, open_bundle, verify_bundle
from orgseg_node.inference.bundles.importing import ImportOptions, _parts, import_model
from orgseg_node.inference.bundles.trained import choose_models, find_trained
from orgseg_node.inference.bundles.writing import BundleDraft, PartDraft, export_trained
from orgseg_node.inference.loading import load_predictor
from orgseg_node.inference.predictor import InferenceSettings
from tests.support.models.tiny_nnunet import TinyModel, write_tiny
from tests.support.processes.once import once

pytestmark = pytest.mark.endurance

_CPU = InferenceSettings(device="cpu", threads=1)


def _everything(volume: Volume) -> Body:
    mask = np.ones(volume.grid.shape, dtype=bool)
    return Body(mask=mask, box=Box.around(mask), effective_diameter_mm=100.0, findings=())


@pytest.fixture(scope="module")
def volume() -> Volume:
    """A CT of smooth noise, 2.5 x 1.5 x 1.5 mm."""
    grid = Grid(shape=(26, 40, 36), spacing_mm=(2.5, 1.5, 1.5), origin_mm=(-20.0, -30.0, 5.0))
    noise = gaussian_filter(np.random.default_rng(1).normal(size=grid.shape), 2)
    return Volume(grid=grid, hu=(noise * 3000).astype(np.int16))


def _labels(
    bundle: ModelBundle, volume: Volume, table: OrganTable, settings: InferenceSettings = _CPU
) -> NDArray[np.uint8]:
    found = load_predictor(bundle, table, settings).predict(volume, _everything(volume), lambda *_: None)
    return found.label_map.labels


def _nnunets_own(
    trained: Path, folds: tuple[int, ...], volume: Volume, folder: Path, *, ras: bool = False
) -> NDArray[np.uint8]:
    """Labels by nnU-Net alone: from its checkpoint and a NIfTI file to a NIfTI file."""
    image = SimpleITK.GetImageFromArray(volume.hu)
    image.SetSpacing(tuple(reversed(volume.grid.spacing_mm)))
    image.SetOrigin(volume.grid.origin_mm)
    if ras:
        image = SimpleITK.DICOMOrient(image, "RAS")
    SimpleITK.WriteImage(image, str(folder / "case_0000.nii.gz"))
    predictor = nnUNetPredictor(device=torch.device("cpu"), allow_tqdm=False)
    predictor.initialize_from_trained_model_folder(str(trained), folds)
    predictor.predict_from_files_sequential([[str(folder / "case_0000.nii.gz")]], [str(folder / "case")])
    found = SimpleITK.ReadImage(str(folder / "case.nii.gz"))
    labels: NDArray[np.uint8] = SimpleITK.GetArrayFromImage(SimpleITK.DICOMOrient(found, "LPS"))
    return labels


def _options(folder: Path, table: OrganTable, **changes: Any) -> ImportOptions:
    return ImportOptions(**({"name": "tiny", "folder": folder / "models", "table": table} | changes))


@pytest.fixture
def options(tmp_path: Path, organ_table: OrganTable) -> Callable[..., ImportOptions]:
    """Options that need no more than what a test is about."""
    return lambda **changes: _options(tmp_path, organ_table, **changes)


Options = Callable[..., ImportOptions]


@pytest.fixture(scope="module")
def trained() -> Path:
    """What nnU-Net left behind: two folds, mirrored along all axes."""
    model = TinyModel(folds=(0, 3), mirror_axes=(0, 1, 2))
    return once("imported-trained", lambda folder: write_tiny(folder, model))


@pytest.fixture(scope="module")
def tiny(trained: Path, organ_table: OrganTable) -> ModelBundle:
    """The bundle of it, imported from an export zip."""

    def imported(folder: Path) -> ModelBundle:
        archive = Path(shutil.make_archive(str(folder / "export"), "zip", trained.parents[1]))
        return import_model(archive, _options(folder, organ_table))

    return once("imported", imported)


def test_an_imported_zip_gives_nnunets_own_labels_to_the_voxel(
    tmp_path: Path, trained: Path, tiny: ModelBundle, volume: Volume, organ_table: OrganTable
) -> None:
    assert tiny.manifest.mirroring
    assert tiny.manifest.parts[0].folds == ("0", "3")
    labels = _labels(tiny, volume, organ_table)
    assert np.unique(labels).tolist() == [0, 1, 2]
    assert (labels == _nnunets_own(trained, (0, 3), volume, tmp_path)).all()
    assert (labels != _nnunets_own(trained, (0,), volume, tmp_path)).any()


def test_a_model_trained_on_ras_files_gets_ras_arrays(
    tmp_path: Path, options: Options, volume: Volume, organ_table: OrganTable
) -> None:
    trained = write_tiny(tmp_path / "results")
    expected = _nnunets_own(trained, (0,), volume, tmp_path, ras=True)
    ras = import_model(trained, options(orientation="RAS"))
    assert (_labels(ras, volume, organ_table) == expected).all()
    assert (_nnunets_own(trained, (0,), volume, tmp_path) != expected).any()


def test_half_precision_stores_each_tensor_once_and_loads_all_names(tmp_path: Path, trained: Path) -> None:
    texts = dict.fromkeys(("title", "intended_use", "trained_on", "licence", "card"), "x")
    bundle = export_trained(
        [PartDraft(folder=trained, label_map={1: "spleen"}, folds=(3,))],
        BundleDraft(name="half", version="1", **texts),  # type: ignore[arg-type]  # the texts only
        tmp_path / "half",
    )
    assert bundle.manifest.parts[0].folds == ("3",)
    checkpoint = torch.load(trained / "fold_3" / "checkpoint_final.pth", weights_only=False)[
        "network_weights"
    ]
    path = bundle.path / bundle.manifest.parts[0].weights[0]
    loaded = load_weights(path)
    assert loaded.keys() == checkpoint.keys()
    for name, tensor in checkpoint.items():
        assert loaded[name].dtype == torch.float32
        assert torch.equal(loaded[name], tensor.half().float())
    unique = {t.data_ptr(): t.numel() for t in checkpoint.values()}
    assert len(unique) < len(checkpoint)
    header = int.from_bytes(path.read_bytes()[:8], "little")
    assert path.stat().st_size == 8 + header + 2 * sum(unique.values())


def test_nothing_pickled_and_no_case_names_enter_the_bundle(tiny: ModelBundle) -> None:
    verify_bundle(tiny)
    for path in tiny.path.rglob("*"):
        if path.is_file():
            assert path.suffix in {".toml", ".md", ".json", ".safetensors"}
            assert b"Doe_John" not in path.read_bytes()
    assert tiny.manifest.organs == ("spleen", "liver")
    assert "Liver" in tiny.card
    assert [p.name for p in tiny.path.parent.iterdir()] == ["tiny"]


def test_several_models_are_merged_by_priority(
    tmp_path: Path, options: Options, volume: Volume, organ_table: OrganTable
) -> None:
    results = tmp_path / "results"
    alone = {}
    for seed, (key, name) in enumerate({"spleen": "Dataset801_Spleen", "aorta": "Dataset802_Tube"}.items()):
        model = write_tiny(results, TinyModel(labels={"organ": 1}, dataset_name=name, seed=seed))
        alone[key] = _nnunets_own(model, (0,), volume, tmp_path) > 0
    assert (alone["spleen"] & alone["aorta"]).any()
    given = {"Dataset802_Tube/organ": "aorta"}
    bundle = import_model(results, options(organs=given, priorities={"aorta": 0.97, "spleen": 0.9}))
    assert bundle.manifest.organs == ("spleen", "aorta")
    labels = _labels(bundle, volume, organ_table)
    assert ((labels == 2) == alone["aorta"]).all()
    assert ((labels == 1) == (alone["spleen"] & ~alone["aorta"])).all()


def test_a_zip_that_leads_out_of_its_folder_is_refused(tmp_path: Path, options: Options) -> None:
    for number, path in enumerate(["../plans.json", "/plans.json", "a/..\\..\\plans.json", "C:/plans.json"]):
        archive = tmp_path / f"{number}.zip"
        with zipfile.ZipFile(archive, "w") as opened:
            opened.writestr(path, "{}")
        with pytest.raises(ModelNotImportable, match="leads out"):
            import_model(archive, options())
    link = zipfile.ZipInfo("plans.json")
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "link.zip", "w") as opened:
        opened.writestr(link, "/etc/passwd")
    with pytest.raises(ModelNotImportable, match="leads out"):
        import_model(tmp_path / "link.zip", options())
    assert not (tmp_path / "models").exists()


def test_what_is_no_model_is_refused(tmp_path: Path, options: Options) -> None:
    (tmp_path / "model.bin").write_text("no zip")
    with pytest.raises(ModelNotImportable, match=r"'model\.bin' is not a zip"):
        import_model(tmp_path / "model.bin", options())
    with pytest.raises(ModelNotImportable, match="no file or folder"):
        import_model(tmp_path / "nowhere", options())
    with pytest.raises(ModelNotImportable, match=r"no plans\.json"):
        import_model(tmp_path, options())


class _Trap:
    """Unpickling this makes a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.folder),)


def test_code_in_a_checkpoint_is_never_run_and_the_checkpoint_refused(
    tmp_path: Path, options: Options
) -> None:
    trained = write_tiny(tmp_path / "results")
    path = trained / "fold_0" / "checkpoint_final.pth"
    content = torch.load(path, weights_only=False)
    torch.save(content | {"trap": _Trap(tmp_path / "sprung")}, path)
    with pytest.raises(ModelNotImportable, match=r"fold_0/checkpoint_final\.pth: It holds more than tensors"):
        import_model(trained, options())
    assert not (tmp_path / "sprung").exists()
    assert list((tmp_path / "models").iterdir()) == []
    assert convert(_request(trained, trusted=True))["configuration"] == "3d_fullres"
    assert (tmp_path / "sprung").exists()


def _request(trained: Path, **changes: Any) -> dict[str, Any]:
    request = {
        "checkpoint": str(trained / "fold_0" / "checkpoint_final.pth"),
        "plans": str(trained / "plans.json"),
        "dataset": str(trained / "dataset.json"),
        "weights": str(trained / "weights.safetensors"),
        "configuration": None,
        "half_precision": False,
        "trusted": False,
    }
    return request | changes


def test_the_checkpoint_tells_what_the_folder_does_not(tmp_path: Path) -> None:
    trained = write_tiny(tmp_path, TinyModel(mirror_axes=(0, 2)))
    answer = convert(_request(trained))
    assert answer.pop("not_streamable") == ""
    assert answer == {
        "trainer": "nnUNetTrainer",
        "configuration": "3d_fullres",
        "mirror_axes": [0, 2],
        "remarks": [],
        "renamed": {},
    }


def test_weights_that_do_not_fit_their_plans_are_refused(tmp_path: Path) -> None:
    trained = write_tiny(tmp_path)
    path = trained / "fold_0" / "checkpoint_final.pth"
    content = torch.load(path, weights_only=False)
    content["network_weights"]["decoder.seg_layers.0.bias"] = torch.zeros(9)
    torch.save(content, path)
    with pytest.raises(ModelNotImportable, match="do not fit"):
        convert(_request(trained))


def test_a_bundle_whose_plans_name_other_code_is_not_loaded(tmp_path: Path, options: Options) -> None:
    bundle = import_model(write_tiny(tmp_path / "results"), options())
    part = bundle.manifest.parts[0]
    file = bundle.path / part.plans
    plans = json.loads(file.read_text())
    architecture = plans["configurations"]["3d_fullres"]["architecture"]
    architecture["network_class_name"] = "torch.nn.modules.module.os.system"
    file.write_text(json.dumps(plans))
    with pytest.raises(BundleInvalid, match=r"os\.system, which is not part of nnU-Net"):
        build_network(plans, json.loads((bundle.path / part.dataset).read_text()), "3d_fullres")
    with pytest.raises(BundleInvalid, match=r"os\.system, which is not part of nnU-Net"):
        open_plans(bundle, part)


@pytest.mark.parametrize(("value", "said"), [(float("nan"), "not finite"), (1e30, "too large for 16 bits")])
def test_weights_that_are_no_numbers_are_refused(value: float, said: str, tmp_path: Path) -> None:
    trained = write_tiny(tmp_path)
    path = trained / "fold_0" / "checkpoint_final.pth"
    content = torch.load(path, weights_only=False)
    next(iter(content["network_weights"].values())).view(-1)[0] = value
    torch.save(content, path)
    with pytest.raises(ModelNotImportable, match=said):
        convert(_request(trained, half_precision=True))


def test_a_damaged_or_foreign_checkpoint_is_refused(tmp_path: Path) -> None:
    trained = write_tiny(tmp_path)
    path = trained / "fold_0" / "checkpoint_final.pth"
    torch.save({"state_dict": {}}, path)
    with pytest.raises(ModelNotImportable, match="not a checkpoint of nnU-Net v2"):
        convert(_request(trained))
    path.write_bytes(path.read_bytes()[:300])
    order, reply = tmp_path / "order.json", tmp_path / "reply.json"
    order.write_text(json.dumps([_request(trained), _request(trained)]))
    assert convert_main([str(order), str(reply)]) == 1
    answers = json.loads(reply.read_text())
    assert len(answers) == 1
    assert answers[0]["problem"]


def test_labels_without_an_organ_are_told_and_can_be_mapped_or_left_out(
    tmp_path: Path, options: Options
) -> None:
    trained = write_tiny(tmp_path / "results", TinyModel(labels={"spleen": 1, "Bauch": 2, "Rest": 3}))
    with pytest.raises(OrganUnknown, match="Bauch of Dataset901_Tiny; Rest of Dataset901_Tiny"):
        import_model(trained, options())
    with pytest.raises(OrganUnknown, match="typo, which no model has"):
        import_model(trained, options(organs={"Bauch": "stomach", "Rest": "", "typo": "heart"}))
    with pytest.raises(OrganUnknown, match="heart of the priorities"):
        import_model(trained, options(organs={"Bauch": "stomach", "Rest": ""}, priorities={"heart": 1.0}))
    with pytest.raises(ModelNotImportable, match="Every label was left out"):
        import_model(trained, options(organs={"1": "", "2": "", "3": ""}))
    parts = _parts(find_trained(trained), options(organs={"Bauch": "stomach", "Rest": ""}))
    assert parts[0].label_map == {1: "spleen", 2: "stomach"}


def test_one_organ_in_two_models_is_refused_unless_named(tmp_path: Path, options: Options) -> None:
    results = tmp_path / "results"
    for number in (1, 2):
        write_tiny(results, TinyModel(labels={"spleen": 1}, dataset_name=f"Dataset90{number}_Tiny"))
    with pytest.raises(ModelNotImportable, match="spleen in Dataset901_Tiny, Dataset902_Tiny"):
        import_model(results, options())
    assert len(_parts(find_trained(results), options(organs={"spleen": "spleen"}))) == 2


def test_of_several_configurations_the_full_resolution_is_taken_unless_told(tmp_path: Path) -> None:
    for configuration in ("3d_lowres", "3d_fullres"):
        write_tiny(tmp_path, TinyModel(configuration=configuration))
    found = find_trained(tmp_path)
    assert [m.configuration for m in choose_models(found, None)] == ["3d_fullres"]
    assert [m.configuration for m in choose_models(found, "3d_lowres")] == ["3d_lowres"]
    with pytest.raises(ModelNotImportable, match="no model of configuration 3d_other"):
        choose_models(found, "3d_other")


def test_a_2d_model_is_refused_before_anything_is_converted(tmp_path: Path, options: Options) -> None:
    trained = write_tiny(tmp_path / "results", TinyModel(patch=(16, 16)))
    with pytest.raises(ModelNotImportable, match="two-dimensional"):
        import_model(trained, options())
    assert list((tmp_path / "models").iterdir()) == []


def test_a_bundle_is_never_overwritten_and_can_be_handed_on(
    tmp_path: Path, tiny: ModelBundle, trained: Path, options: Options
) -> None:
    copy = import_model(tiny.path, options())
    assert copy.sha256 == tiny.sha256
    verify_bundle(copy)
    with pytest.raises(BundleExists):
        import_model(tiny.path, options())
    with pytest.raises(BundleExists):
        import_model(trained, options())
    with pytest.raises(BundleInvalid, match=r"name '\.\./out'"):
        import_model(trained, options(name="../out"))


def test_a_bundle_with_foreign_plans_is_not_imported(
    tmp_path: Path, tiny: ModelBundle, options: Options
) -> None:
    folder = shutil.copytree(tiny.path, tmp_path / "changed")
    name = tiny.manifest.parts[0].plans
    plans = folder / name
    plans.write_text(plans.read_text().replace("unet.PlainConvUNet", "unet.nn.Sequential"))
    manifest = (folder / "manifest.toml").read_text()
    (folder / "manifest.toml").write_text(manifest.replace(tiny.manifest.files[name], file_sha256(plans)))
    with pytest.raises(BundleInvalid, match=r"unet\.nn\.Sequential"):
        import_model(folder, options())


def test_weights_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    save_file({"a": torch.tensor([1.0, float("nan")])}, path)
    with pytest.raises(BundleInvalid, match="not finite"):
        load_weights(path)
    save_file({"a": torch.zeros(1)}, path, metadata={"aliases": '{"b": "c"}'})
    with pytest.raises(BundleInvalid, match="aliases of 1 tensors"):
        load_weights(path)


def test_a_changed_weight_is_not_run(tmp_path: Path, tiny: ModelBundle, organ_table: OrganTable) -> None:
    bundle = open_bundle(shutil.copytree(tiny.path, tmp_path / "tiny"))
    path = bundle.path / bundle.manifest.parts[0].weights[0]
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(BundleHashMismatch, match="fold_0"):
        load_predictor(bundle, organ_table, _CPU)


def test_a_bundle_with_an_organ_the_table_lacks_is_not_run(
    tiny: ModelBundle, organ_table: OrganTable
) -> None:
    smaller = OrganTable({key: organ for key, organ in organ_table.items() if key != "liver"})
    with pytest.raises(OrganUnknown, match="liver"):
        load_predictor(tiny, smaller, _CPU)


def test_safetensors_of_another_make_are_refused(tmp_path: Path) -> None:
    (tmp_path / "w.safetensors").write_bytes(b"nothing")
    with pytest.raises(BundleInvalid, match=r"w\.safetensors"):
        load_weights(tmp_path / "w.safetensors")


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_gpu_that_is_not_there_is_said(tiny: ModelBundle, organ_table: OrganTable) -> None:
    with pytest.raises(EnvironmentFault, match="GPU"):
        load_predictor(tiny, organ_table, InferenceSettings(device="cuda"))
    assert load_predictor(tiny, organ_table, InferenceSettings()).device.startswith("cpu")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no GPU")
def test_the_gpu_gives_the_labels_of_the_cpu(
    tiny: ModelBundle, volume: Volume, organ_table: OrganTable
) -> None:
    predictor = load_predictor(tiny, organ_table, InferenceSettings())
    found = predictor.predict(volume, _everything(volume), lambda *_: None)
    assert found.device.startswith("cuda:0 (")
    alike = found.label_map.labels == _labels(tiny, volume, organ_table)
    assert alike.mean() > 0.95  # the GPU computes in half precision


def test_a_ct_of_nothing_but_zeros_has_no_organs(
    tiny: ModelBundle, volume: Volume, organ_table: OrganTable
) -> None:
    nothing = Volume(grid=volume.grid, hu=np.zeros_like(volume.hu))
    assert not _labels(tiny, nothing, organ_table).any()


@pytest.mark.parametrize(
    ("error", "coded"),
    [
        (MemoryError(), OutOfMemory),
        (torch.OutOfMemoryError("CUDA out of memory"), OutOfMemory),
        (RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate"), OutOfMemory),
        (RuntimeError("Encountered inf in predicted array"), InferenceFailed),
        (ValueError("bad"), InferenceFailed),
    ],
)
def test_failures_of_the_network_are_coded(error: Exception, coded: type[Exception]) -> None:
    with pytest.raises(coded), coded_errors():
        raise error
