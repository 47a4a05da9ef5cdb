"""The networks of nnU-Net v2, built from plans and filled from safetensors."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from nnunetv2.utilities.get_network_from_plans import get_network_from_plans
from nnunetv2.utilities.label_handling.label_handling import determine_num_input_channels
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager
from safetensors import SafetensorError, safe_open

from orgseg_node.errors import BundleInvalid
from orgseg_node.inference.bundles.bundle import ModelBundle, Part, check_weights
from orgseg_node.inference.bundles.plan_names import plan_problem


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PartNetwork:
    """One trained network of a bundle, with its nnU-Net plans.

    Attributes
    ----------
    plans, configuration, dataset : as nnU-Net reads them
    network : in evaluation mode, without weights
    states : the weights of each fold
    """

    plans: PlansManager
    configuration: ConfigurationManager
    dataset: Mapping[str, Any]
    network: torch.nn.Module
    states: tuple[Mapping[str, torch.Tensor], ...]


def open_network(bundle: ModelBundle, part: Part) -> PartNetwork:
    """Read a part of a bundle.

    Raises
    ------
    BundleInvalid
        If a file of weights was not written by this software, or the plans name what is not nnU-Net's own.
    """
    plans, configuration, dataset = open_plans(bundle, part)
    return PartNetwork(
        plans=plans,
        configuration=configuration,
        dataset=dataset,
        network=build_network(plans.plans, dataset, part.configuration),
        states=tuple(load_weights(bundle.path / path) for path in part.weights),
    )


def open_plans(bundle: ModelBundle, part: Part) -> tuple[PlansManager, ConfigurationManager, dict[str, Any]]:
    """The plans, the configuration and the data set description of a part of a bundle.

    Raises
    ------
    BundleInvalid
        If the plans name a class, function or argument that is not nnU-Net's own.
    """
    plans = PlansManager(json.loads((bundle.path / part.plans).read_text(encoding="utf-8")))
    dataset = json.loads((bundle.path / part.dataset).read_text(encoding="utf-8"))
    return plans, checked_configuration(plans, part.configuration), dataset


def checked_configuration(plans: PlansManager, name: str) -> ConfigurationManager:
    """One configuration. nnU-Net imports what plans name when it is used, so nothing is used before.

    Raises
    ------
    BundleInvalid
        If the plans name a class, function or argument that is not nnU-Net's own.
    """
    configuration = plans.get_configuration(name)
    problem = plan_problem(plans.plans, configuration.configuration)
    if problem is not None:
        raise BundleInvalid(problem)
    return configuration


def build_network(
    plans: Mapping[str, Any], dataset: Mapping[str, Any], configuration: str
) -> torch.nn.Module:
    """The untrained network that plans describe, as nnU-Net itself builds it for inference.

    Parameters
    ----------
    plans : content of ``plans.json``
    dataset : content of ``dataset.json``
    configuration : such as ``3d_fullres``

    Returns
    -------
    the network in evaluation mode, on the CPU

    Raises
    ------
    BundleInvalid
        If the plans name a class, function or argument that is not nnU-Net's own.
    """
    manager = PlansManager(json.loads(json.dumps(plans)))
    chosen = checked_configuration(manager, configuration)
    network: torch.nn.Module = get_network_from_plans(
        chosen.network_arch_class_name,
        chosen.network_arch_init_kwargs,
        chosen.network_arch_init_kwargs_req_import,
        determine_num_input_channels(manager, chosen, dict(dataset)),
        manager.get_label_manager(dict(dataset)).num_segmentation_heads,
        allow_init=False,
        deep_supervision=False,
    )
    return network.eval()


def load_weights(path: Path) -> dict[str, torch.Tensor]:
    """The state dict of a network from safetensors, in float32, with the tensors that have several names.

    Raises
    ------
    BundleInvalid
        If the file was not written by this software, or holds weights that are not finite.
    """
    check_weights(path)
    try:
        with safe_open(path, framework="pt") as stored:
            aliases = json.loads((stored.metadata() or {}).get("aliases", "{}"))
            state = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118  # not a mapping
    except (SafetensorError, ValueError, RecursionError) as error:
        raise BundleInvalid(f"{path.name} cannot be read: {error}") from error
    if not isinstance(aliases, dict) or not all(isinstance(one, str) for one in aliases.values()):
        raise BundleInvalid(f"{path.name} has no table of aliases.")
    if missing := set(aliases.values()) - state.keys():
        raise BundleInvalid(f"{path.name} has aliases of {len(missing)} tensors that it does not have.")
    if not all(bool(torch.isfinite(tensor).all()) for tensor in state.values()):
        raise BundleInvalid(f"{path.name} holds weights that are not finite.")
    state = {name: t.float() if t.is_floating_point() else t for name, t in state.items()}
    return state | {name: state[source] for name, source in aliases.items()}
