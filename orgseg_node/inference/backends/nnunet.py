"""nnU-Net v2 models, run by nnU-Net's own predictor, the reference: whole or in the study's chunks.

Preprocessing, sliding window, ensembling and export are nnU-Net's own functions, called in this process
without its worker processes. Weights come from safetensors; nothing is unpickled.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import structlog
import torch
from nnunetv2.inference.export_prediction import convert_predicted_logits_to_segmentation_with_correct_shape
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from numpy.typing import NDArray

from orgseg_node.core.body import Body
from orgseg_node.core.geometry import Box
from orgseg_node.core.organs import OrganTable
from orgseg_node.core.volume import LabelMap, Volume
from orgseg_node.inference.backends.context import (
    coded_errors,
    describe_device,
    network_progress,
    prints_to_stderr,
    timed,
    torch_threads,
)
from orgseg_node.inference.backends.network import open_network
from orgseg_node.inference.bundles.bundle import ModelBundle, Part
from orgseg_node.inference.chunks import Chunk, split_into_chunks
from orgseg_node.inference.merging import Merger, overlap_finding, rank_organs
from orgseg_node.inference.orientation import reorientation_to
from orgseg_node.inference.predictor import (
    InferenceSettings,
    Method,
    ModelIdentity,
    Prediction,
    ProgressCallback,
)
from orgseg_node.inference.preparing import PreparedCt, prepare_ct
from orgseg_node.inference.subset import select_networks

_KEEP_BYTES = 2 * 1024**3  # networks of bundles up to this size stay in memory between jobs
_PREPROCESSING, _TILES = 0.05, 0.85  # fraction of the progress of a piece for these steps

_log = structlog.get_logger(__name__)


class _CountingPredictor(nnUNetPredictor):  # type: ignore[misc]  # nnU-Net has no types
    """nnU-Net's predictor, which reports its progress after each tile."""

    on_tile: Callable[[float], None] = staticmethod(lambda _: None)
    _tiles = 0
    _done = 0

    def begin(self, on_tile: Callable[[float], None]) -> None:
        self.on_tile, self._done = on_tile, 0

    def _internal_get_sliding_window_slicers(self, image_size: tuple[int, ...]) -> Any:
        slicers = super()._internal_get_sliding_window_slicers(image_size)
        self._tiles = len(slicers) * len(self.list_of_parameters)
        return slicers

    def _internal_maybe_mirror_and_predict(self, x: torch.Tensor) -> Any:
        prediction = super()._internal_maybe_mirror_and_predict(x)
        self._done += 1
        self.on_tile(min(1.0, self._done / self._tiles))
        return prediction


@dataclass(frozen=True, slots=True, kw_only=True)
class _Piece:
    """A part of the prepared CT that the network sees at once, and the part of it whose labels are used."""

    box: Box
    keep: Box


class NnunetPredictor:
    """Runs the networks of one bundle through nnU-Net's own predictor.

    Parameters
    ----------
    bundle : an opened and verified bundle
    organs : the organ table
    settings : method, chunks, threads
    device : the device to run on
    requested : keys of the organs that the result must have; see `select_networks`. None for all
    """

    def __init__(
        self,
        bundle: ModelBundle,
        organs: OrganTable,
        settings: InferenceSettings,
        device: torch.device,
        requested: Collection[str] | None = None,
    ) -> None:
        self._bundle = bundle
        self._organs = organs
        self._settings = settings
        self._device = device
        self._keep = bundle.size_bytes <= _KEEP_BYTES
        self._loaded: dict[str, _CountingPredictor] = {}
        manifest = bundle.manifest
        self._selection = select_networks(manifest.parts, rank_organs(manifest.priorities), requested)

    @property
    def models(self) -> tuple[ModelIdentity, ...]:
        """The bundle it runs."""
        return (self._bundle.identity,)

    @property
    def device(self) -> str:
        """The device, for reports."""
        return describe_device(self._device, self._settings.threads)

    def predict(self, volume: Volume, body: Body, on_progress: ProgressCallback) -> Prediction:
        """Label every voxel of a CT with every network of the bundle that the requested organs need.

        Parameters
        ----------
        volume : CT in HU, any orientation
        body : the patient in it
        on_progress : called after each tile; may raise to stop

        Raises
        ------
        BodyNotFound
            If the body is empty.
        OutOfMemory
            If the machine or the GPU has too little memory.
        InferenceFailed
            If nnU-Net fails in any other way.
        """
        manifest, selection = self._bundle.manifest, self._selection
        method = self._settings.method_description + selection.describe(len(manifest.parts))
        timings = {"prepare": 0.0, "load": 0.0, "predict": 0.0, "merge": 0.0}
        with coded_errors(), torch_threads(self._settings.threads), prints_to_stderr(on_progress) as report:
            _log.info(
                "segmenting", device=self.device, method=method, model=manifest.name, version=manifest.version
            )
            with timed(timings, "prepare"):
                prepared = prepare_ct(volume, body, manifest.preprocessing)
                pieces = self._pieces(prepared)
            merger = Merger(prepared.volume.grid.shape, manifest.priorities, selection.requested)
            runs = [(part, piece) for part in selection.parts for piece in pieces]
            for number, (part, piece) in enumerate(runs):
                with timed(timings, "load"):
                    network = self._network(part)
                with timed(timings, "predict"):
                    piece_progress = network_progress(
                        report, number, len(runs), f"{manifest.name} {Path(part.folder).name}"
                    )
                    labels = self._run(network, prepared.volume.crop(piece.box), piece_progress)
                with timed(timings, "merge"):
                    inner = tuple(
                        slice(a - b, c - b)
                        for a, b, c in zip(piece.keep.start, piece.box.start, piece.keep.stop, strict=True)
                    )
                    merger.add(labels[inner], part.labels, piece.keep.slices)
            merged = prepared.restore(merger.labels())
        report(1.0, manifest.name)
        return Prediction(
            label_map=LabelMap(grid=volume.grid, labels=merged, organs=merger.organs(self._organs)),
            models=self.models,
            method=method,
            device=self.device,
            timings_s=timings,
            findings=overlap_finding(merger.overlaps, volume.grid.voxel_ml),
            not_searched=selection.not_searched,
        )

    def _pieces(self, prepared: PreparedCt) -> list[_Piece]:
        """The whole prepared CT, or chunks along the body axis, each cropped to the patient in it."""
        shape = prepared.volume.grid.shape
        if self._settings.method == Method.WHOLE:
            whole = Box(start=(0, 0, 0), stop=shape)
            return [_Piece(box=whole, keep=whole)]
        spacing = prepared.volume.grid.spacing_mm
        margin_mm = self._bundle.manifest.preprocessing.body_margin_mm
        reach = (round(margin_mm / spacing[0]), round(margin_mm / spacing[1]), round(margin_mm / spacing[2]))
        pieces = []
        for chunk in split_into_chunks(
            shape[0], spacing[0], self._settings.chunk_mm, self._settings.overlap_mm
        ):
            mask = prepared.mask[chunk.start : chunk.stop]
            if mask.any():
                body = Box.around(mask, reach)
                pieces += _piece(body, chunk)
        return pieces

    def _network(self, part: Part) -> _CountingPredictor:
        if part.folder in self._loaded:
            return self._loaded[part.folder]
        if not self._keep:
            self._loaded.clear()
        self._loaded[part.folder] = self._load(part)
        return self._loaded[part.folder]

    def _load(self, part: Part) -> _CountingPredictor:
        manifest = self._bundle.manifest
        found = open_network(self._bundle, part)
        with contextlib.redirect_stdout(io.StringIO()):  # it prints a warning on every CPU
            predictor = _CountingPredictor(
                tile_step_size=manifest.tile_step_size,
                use_gaussian=True,
                use_mirroring=manifest.mirroring,
                perform_everything_on_device=self._device.type == "cuda",
                device=self._device,
                allow_tqdm=False,
            )
        predictor.manual_initialization(
            network=found.network,
            plans_manager=found.plans,
            configuration_manager=found.configuration,
            parameters=list(found.states),
            dataset_json=dict(found.dataset),
            trainer_name=part.trainer,
            inference_allowed_mirroring_axes=part.mirror_axes or None,
        )
        predictor.network = (
            found.network
        )  # never compiled, whatever the environment variable nnUNet_compile is
        return predictor

    def _run(
        self, network: _CountingPredictor, volume: Volume, on_progress: ProgressCallback
    ) -> NDArray[Any]:
        """Labels (K, J, I) of one piece, by nnU-Net's own steps in this process."""
        reorientation = reorientation_to(volume.grid, self._bundle.manifest.preprocessing.orientation)
        hu: NDArray[Any] = np.ascontiguousarray(reorientation.apply(volume.hu))
        if not hu.any():  # nnU-Net cannot crop to the non-zero part if there is none
            return np.zeros(volume.grid.shape, dtype=np.uint8)
        spacing = [float(s) for s in reorientation.apply_to_grid(volume.grid).spacing_mm]
        plans, configuration = network.plans_manager, network.configuration_manager
        preprocessor = configuration.preprocessor_class(verbose=False)
        data, _, properties = preprocessor.run_case_npy(
            hu[None], None, {"spacing": spacing}, plans, configuration, network.dataset_json
        )
        on_progress(_PREPROCESSING, "")
        network.begin(lambda part: on_progress(_PREPROCESSING + _TILES * part, ""))
        logits = network.predict_logits_from_preprocessed_data(torch.from_numpy(data)).cpu()
        segmentation: NDArray[Any] = convert_predicted_logits_to_segmentation_with_correct_shape(
            logits,
            plans,
            configuration,
            network.label_manager,
            properties,
            num_threads_torch=self._settings.threads or torch.get_num_threads(),
        )
        on_progress(1.0, "")
        return reorientation.undo(segmentation)


def _piece(body: Box, chunk: Chunk) -> list[_Piece]:
    """The patient in a chunk; empty if the patient is only in slices that a neighbouring chunk labels."""
    low, high = chunk.start + body.start[0], chunk.start + body.stop[0]
    keep_low, keep_high = max(low, chunk.keep_start), min(high, chunk.keep_stop)
    if keep_low >= keep_high:
        return []
    (_, j0, i0), (_, j1, i1) = body.start, body.stop
    box = Box(start=(low, j0, i0), stop=(high, j1, i1))
    return [_Piece(box=box, keep=Box(start=(keep_low, j0, i0), stop=(keep_high, j1, i1)))]
