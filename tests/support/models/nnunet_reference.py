"""The same tiny network over the same CT by nnU-Net's own predictor and by the streaming engine."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from nnunetv2.inference.export_prediction import convert_predicted_logits_to_segmentation_with_correct_shape
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from orgseg_node.core.volume import Mask
from orgseg_node.inference.backends.forward import EagerForward, MirroredForward
from orgseg_node.inference.backends.network import build_network
from orgseg_node.inference.engine.forward import Forward
from orgseg_node.inference.engine.label_planes import Labels
from orgseg_node.inference.engine.plans import NetworkPlan, read_network_plan
from orgseg_node.inference.engine.run import LabellingTask, RunSummary, run_network
from orgseg_node.inference.engine.slab import AccumulatorStorage
from orgseg_node.inference.engine.tiles import Tiling
from orgseg_node.inference.engine.working import nonzero_box, working_volume
from tests.support.models.tiny_nnunet import TinyModel, tiny_dataset, tiny_network, tiny_plans

CPU = torch.device("cpu")
Three = tuple[float, float, float]


@dataclass(frozen=True, kw_only=True, eq=False)
class Net:
    """A tiny network, ready for both; build it with `net`."""

    plans: PlansManager
    configuration: ConfigurationManager
    dataset: dict[str, Any]
    network: torch.nn.Module
    states: tuple[Mapping[str, torch.Tensor], ...]
    mirror_axes: tuple[int, ...]

    @property
    def plan(self) -> NetworkPlan:
        """The plan as the engine reads it."""
        return read_network_plan(self.plans, self.configuration, self.dataset)


def net(model: TinyModel) -> Net:
    """A tiny model in memory, with as many sets of weights as it has folds."""
    plans, dataset = tiny_plans(model), tiny_dataset(model)
    manager = PlansManager(json.loads(json.dumps(plans)))
    network = build_network(plans, dataset, model.configuration)
    wanted = set(network.state_dict())
    states = tuple(
        {name: t for name, t in _weights(model, number).items() if name in wanted}
        for number in range(len(model.folds))
    )
    return Net(
        plans=manager,
        configuration=manager.get_configuration(model.configuration),
        dataset=dataset,
        network=network,
        states=states,
        mirror_axes=model.mirror_axes or (),
    )


def _weights(model: TinyModel, number: int) -> dict[str, torch.Tensor]:
    """Of one fold; made once for all models whose networks are alike."""
    return _made(
        model.heads, model.kernel, model.stride, model.residual, model.seed + number, model.gain, model.twins
    )


@lru_cache(maxsize=128)
def _made(
    heads: int,
    kernel: tuple[int, int, int],
    stride: tuple[int, int, int],
    residual: bool,  # noqa: FBT001  # a key of the cache
    seed: int,
    gain: float,
    twins: bool,  # noqa: FBT001
) -> dict[str, torch.Tensor]:
    labels: dict[str, int | list[int]] = {str(n): n for n in range(1, heads)}
    model = TinyModel(labels=labels, kernel=kernel, stride=stride, residual=residual, gain=gain, twins=twins)
    return dict(tiny_network(model, seed).state_dict())


def noise(shape: tuple[int, ...], seed: int = 0, sigma: float = 1.5) -> NDArray[np.int16]:
    """A CT of smooth noise; with a small sigma, labels change from voxel to voxel."""
    values = gaussian_filter(np.random.default_rng(seed).normal(size=shape), sigma)
    return np.asarray(values / (values.std() or 1.0) * 150 + 30).astype(np.int16)


def nnunets_labels(net: Net, hu: NDArray[Any], spacing_mm: Three, step: float = 0.5) -> NDArray[Any]:
    """What nnU-Net finds: its preprocessor, its predictor and its export, one after the other.

    Parameters
    ----------
    net : the network
    hu : (K, J, I)
    spacing_mm : of the CT
    step : ``tile_step_size``
    """
    with contextlib.redirect_stdout(io.StringIO()):  # it prints a warning on every CPU
        predictor = nnUNetPredictor(
            tile_step_size=step,
            use_mirroring=bool(net.mirror_axes),
            perform_everything_on_device=False,
            device=CPU,
            allow_tqdm=False,
        )
    predictor.manual_initialization(
        network=net.network,
        plans_manager=net.plans,
        configuration_manager=net.configuration,
        parameters=[dict(state) for state in net.states],
        dataset_json=net.dataset,
        trainer_name="nnUNetTrainer",
        inference_allowed_mirroring_axes=net.mirror_axes or None,
    )
    preprocessor = net.configuration.preprocessor_class(verbose=False)
    data, _, properties = preprocessor.run_case_npy(
        hu[None], None, {"spacing": list(spacing_mm)}, net.plans, net.configuration, net.dataset
    )
    logits = predictor.predict_logits_from_preprocessed_data(torch.from_numpy(data)).cpu()
    found: NDArray[Any] = convert_predicted_logits_to_segmentation_with_correct_shape(
        logits,
        net.plans,
        net.configuration,
        predictor.label_manager,
        properties,
        num_threads_torch=torch.get_num_threads(),
    )
    return found


def engines_labels(
    net: Net,
    hu: NDArray[Any],
    spacing_mm: Three,
    step: float = 0.5,
    *,
    accumulators: AccumulatorStorage = AccumulatorStorage.HOST,
    region: Mask | None = None,
    overlap: bool = False,
    precompute: bool = False,
    block: int | None = None,
) -> tuple[Labels, RunSummary]:
    """What the streaming engine finds.

    Parameters
    ----------
    net, hu, spacing_mm, step : see `nnunets_labels`
    accumulators, region, overlap, block : see `LabellingTask`; the region is on the grid of ``hu``
    precompute : compute the whole working volume first
    """
    plan = net.plan
    order = plan.preprocessing.transpose
    turned = hu.transpose(order)
    labels = np.zeros(hu.shape, dtype=np.uint16)
    box = nonzero_box(turned)
    assert box is not None
    spacing = (spacing_mm[order[0]], spacing_mm[order[1]], spacing_mm[order[2]])
    working = working_volume(
        turned[box.slices], plan.preprocessing.normalisation, plan.preprocessing.regrid(box.shape, spacing)
    )
    if precompute:
        working.precompute()
    task = LabellingTask(
        working=working,
        to_ct=plan.regrid(working.shape, box.shape, spacing),
        tiling=Tiling.covering(working.shape, plan.patch, step),
        regions=plan.regions,
        region=None if region is None else region.transpose(order)[box.slices],
        accumulators=accumulators,
        overlap=overlap,
        block=block,
    )
    forward: Forward = EagerForward(net.network, net.states, CPU)
    if net.mirror_axes:
        forward = MirroredForward(forward, net.mirror_axes)
    merged, numbers = labels.transpose(order)[box.slices], []

    def on_plane(k: int, found: Labels) -> None:
        numbers.append(k)
        merged[k] = found

    summary = run_network(task, forward, plan.heads, lambda *_: None, on_plane)
    assert numbers == list(range(len(merged)))
    return labels, summary
