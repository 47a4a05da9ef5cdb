"""Convert pickled checkpoints to safetensors: ``python -m`` this module ``REQUEST REPLY``.

This runs in a process of its own, started by `inference.bundles.conversion`, so that the node itself never
unpickles. Only tensors, numbers and text are loaded; a checkpoint with other Python objects is refused unless
the user declared its source trustworthy.
"""

from __future__ import annotations

import importlib
import json
import pickle
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from safetensors.torch import save_file

from orgseg_node.errors import ModelNotImportable, NotStreamable, OrgsegError
from orgseg_node.inference.backends.network import build_network, checked_configuration
from orgseg_node.inference.bundles.sandbox import limit_this_process
from orgseg_node.inference.bundles.trained import refuse_unusable
from orgseg_node.inference.engine.plans import read_network_plan

_PREFIXES = ("module.", "_orig_mod.")  # left by distributed training and torch.compile


def main(arguments: list[str]) -> int:
    """Convert the checkpoints of a request file until one fails and write the reply; 0 if all went well."""
    request_file, reply = (Path(argument) for argument in arguments)
    answers: list[dict[str, Any]] = []
    for request in json.loads(request_file.read_text(encoding="utf-8")):
        try:
            answers.append(convert(request))
        except OrgsegError as error:
            answers.append({"problem": error.detail})
        except Exception as error:  # noqa: BLE001  # a file from outside may fail in any way; the parent must know
            answers.append({"problem": f"{type(error).__name__}: {error}"})
        if "problem" in answers[-1]:
            break
    reply.write_text(json.dumps(answers), encoding="utf-8")
    return 1 if any("problem" in answer for answer in answers) else 0


def convert(request: Mapping[str, Any]) -> dict[str, Any]:
    """Convert one checkpoint after checking that its weights fit its plans.

    Raises
    ------
    ModelNotImportable
        If the checkpoint is not one of nnU-Net v2, is damaged, or does not fit.
    """
    checkpoint = _load(Path(request["checkpoint"]), trusted=request["trusted"])
    if not isinstance(checkpoint, dict) or not isinstance(checkpoint.get("network_weights"), dict):
        raise ModelNotImportable("It is not a checkpoint of nnU-Net v2.")
    plans = json.loads(Path(request["plans"]).read_text(encoding="utf-8"))
    dataset = json.loads(Path(request["dataset"]).read_text(encoding="utf-8"))
    configuration = request["configuration"] or checkpoint.get("init_args", {}).get("configuration")
    if configuration is None:
        raise ModelNotImportable("Neither its folder nor its checkpoint states the configuration.")
    refuse_unusable(plans, dataset, configuration)
    network = build_network(plans, dataset, configuration)
    try:
        network.load_state_dict(
            {_original_key(k): v for k, v in checkpoint["network_weights"].items()}, strict=True
        )
    except RuntimeError as error:
        raise ModelNotImportable(
            "The weights do not fit the network of the plans; another trainer, such as nnUNetTrainerBN, "
            f"builds another network. {_first_difference(error)}"
        ) from error
    _save(network, Path(request["weights"]), half_precision=request["half_precision"])
    return {
        "trainer": str(checkpoint.get("trainer_name", "nnUNetTrainer")),
        "configuration": configuration,
        "mirror_axes": [int(axis) for axis in checkpoint.get("inference_allowed_mirroring_axes") or ()],
        "not_streamable": _not_streamable(plans, dataset, configuration),
    }


def _not_streamable(plans: Mapping[str, Any], dataset: Mapping[str, Any], configuration: str) -> str:
    manager = PlansManager(json.loads(json.dumps(plans)))
    try:
        read_network_plan(manager, checked_configuration(manager, configuration), dataset)
    except NotStreamable as error:
        return error.detail
    return ""


def _first_difference(error: RuntimeError) -> str:
    """What does not fit, without PyTorch's list of every tensor."""
    lines = [line.strip() for line in str(error).splitlines()[1:2]]
    return " ".join(line if len(line) <= 160 else f"{line[:160]} ..." for line in lines)


def _load(path: Path, *, trusted: bool) -> Any:
    if trusted:
        return torch.load(path, map_location="cpu", weights_only=False)
    try:
        with torch.serialization.safe_globals(_safe_types()):
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        found = re.search(r"GLOBAL ([\w.]+)", str(error))
        raise ModelNotImportable(
            "It holds more than tensors, numbers and text "
            f"({found[1][:100] if found else 'unknown objects'}), and loading that could run code. "
            "Only if you trust its source, import it with --trust-checkpoints."
        ) from error


def _safe_types() -> list[Any]:
    """NumPy's scalars and arrays, which nnU-Net's training log contains, under old and new module names."""
    multiarray = importlib.import_module("numpy._core.multiarray")
    functions = ("scalar", "_reconstruct")
    named = [
        (getattr(multiarray, f), f"numpy.{core}.multiarray.{f}")
        for f in functions
        for core in ("core", "_core")
    ]
    types = [getattr(np.dtypes, name) for name in np.dtypes.__all__]
    return [*named, np.dtype, np.ndarray, *types]


def _original_key(key: str) -> str:
    for prefix in _PREFIXES:
        key = key.removeprefix(prefix)
    return key


def _save(network: torch.nn.Module, path: Path, *, half_precision: bool) -> None:
    """Write each tensor once: nnU-Net's decoder refers to its encoder, so most tensors have several names."""
    unique: dict[str, torch.Tensor] = {}
    aliases: dict[str, str] = {}
    first: dict[tuple[int, torch.Size, tuple[int, ...]], str] = {}
    for name, tensor in network.state_dict().items():
        if not torch.isfinite(tensor).all():
            raise ModelNotImportable(f"Its weights {name} are not finite.")
        source = first.setdefault((tensor.data_ptr(), tensor.shape, tensor.stride()), name)
        if source != name:
            aliases[name] = source
            continue
        stored = tensor.half() if half_precision and tensor.is_floating_point() else tensor
        if not torch.isfinite(stored).all():
            raise ModelNotImportable(
                f"Its weights {name} are too large for 16 bits; import in full precision."
            )
        unique[name] = stored.contiguous()
    # One key alone: safetensors writes several in random order, and the same weights got another hash.
    save_file(unique, path, metadata={"aliases": json.dumps(aliases, sort_keys=True)})


def _largest(request_file: str) -> int:
    requests = json.loads(Path(request_file).read_text(encoding="utf-8"))
    return max((Path(one["checkpoint"]).stat().st_size for one in requests), default=0)


if __name__ == "__main__":
    limit_this_process(_largest(sys.argv[1]))
    sys.exit(main(sys.argv[1:]))
