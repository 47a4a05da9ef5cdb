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
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import nnunetv2
import numpy as np
import torch
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from safetensors.torch import save_file

from orgseg_node.errors import (
    ModelContradictory,
    ModelDamaged,
    ModelNotImportable,
    ModelUnsupported,
    NotStreamable,
    OrgsegError,
)
from orgseg_node.inference.backends.network import build_network, checked_configuration
from orgseg_node.inference.bundles.nnunet.other_kinds import file_problem
from orgseg_node.inference.bundles.nnunet.training_record import read_record
from orgseg_node.inference.bundles.sandbox import limit_this_process
from orgseg_node.inference.bundles.trained import refuse_unusable
from orgseg_node.inference.engine.plans import read_network_plan

_SEGMENTATION_LAYER = re.compile(r"decoder\.seg_layers\.(\d+)\.")
_PREFIXES = ("module.", "_orig_mod.")  # left by distributed training and torch.compile
_OWN_TRAINERS = "nnUNetTrainerOrgseg"
_TOO_LITTLE_MEMORY = "There is too little free memory to read it."


def main(arguments: list[str]) -> int:
    """Convert the checkpoints of a request file until one fails and write the reply; 0 if all went well."""
    request_file, reply = (Path(argument) for argument in arguments)
    answers: list[dict[str, Any]] = []
    for request in json.loads(request_file.read_text(encoding="utf-8")):
        try:
            answers.append(convert(request))
        except OrgsegError as error:
            answers.append({"problem": error.detail, "code": error.code})
        except MemoryError:
            answers.append({"problem": _TOO_LITTLE_MEMORY, "code": ModelNotImportable.code})
        except Exception as error:  # noqa: BLE001  # a file from outside may fail in any way; the parent must know
            answers.append({"problem": f"{type(error).__name__}: {error}", "code": ModelDamaged.code})
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
        raise ModelUnsupported("It is not a checkpoint of nnU-Net v2: it has no table network_weights.")
    plans = json.loads(Path(request["plans"]).read_text(encoding="utf-8"))
    dataset = json.loads(Path(request["dataset"]).read_text(encoding="utf-8"))
    configuration = request["configuration"] or _configuration(checkpoint)
    refuse_unusable(plans, dataset, configuration)
    record = read_record(checkpoint, plans, dataset, configuration)
    if record.problem:
        raise ModelContradictory(record.problem)
    network = _filled_network(plans, dataset, configuration, checkpoint["network_weights"])
    _save(network, Path(request["weights"]), half_precision=request["half_precision"])
    trainer = str(checkpoint.get("trainer_name", "nnUNetTrainer"))
    return {
        "trainer": trainer,
        "configuration": configuration,
        "mirror_axes": _mirror_axes(checkpoint.get("inference_allowed_mirroring_axes")),
        "not_streamable": _not_streamable(plans, dataset, configuration),
        "remarks": [*record.remarks, *_about_trainer(trainer)],
        "renamed": {str(number): name for number, name in record.renamed.items()},
    }


def _configuration(checkpoint: Mapping[str, Any]) -> str:
    arguments = checkpoint.get("init_args")
    found = arguments.get("configuration") if isinstance(arguments, Mapping) else None
    if not isinstance(found, str):
        raise ModelNotImportable("Neither its folder nor its checkpoint states the configuration.")
    return found


def _mirror_axes(stored: Any) -> list[int]:
    axes = [] if stored is None else list(stored) if isinstance(stored, Sequence) else [stored]
    if not all(isinstance(axis, int | np.integer) and 0 <= axis <= 2 for axis in axes):
        raise ModelDamaged(f"Its mirror axes are {axes}, which a network of three axes does not have.")
    return [int(axis) for axis in axes]


def _about_trainer(name: str) -> list[str]:
    """What to say of a trainer that is neither nnU-Net's nor of this project: its network may be another."""
    declared = re.compile(rf"^class {re.escape(name)}\b", re.MULTILINE)
    sources = Path(nnunetv2.__path__[0], "training", "nnUNetTrainer").rglob("*.py")
    if name.startswith(_OWN_TRAINERS) or any(declared.search(p.read_text(encoding="utf-8")) for p in sources):
        return []
    sentence = (
        f"Its trainer {name} is not part of nnU-Net. Its weights fit the network of the plans; if it changed "
        "activations or how images are prepared, nothing shows it: compare with nnU-Net's own prediction."
    )
    return [sentence]


def _filled_network(
    plans: Mapping[str, Any], dataset: Mapping[str, Any], configuration: str, weights: Mapping[Any, Any]
) -> torch.nn.Module:
    """The network of the plans with the weights of a checkpoint.

    Parameters
    ----------
    plans, dataset, configuration : see `build_network`
    weights : tensor by name

    Raises
    ------
    ModelUnsupported
        If nnU-Net cannot build the network, or the weights are not those of this network.
    """
    try:
        network = build_network(plans, dataset, configuration)
    except (AssertionError, RuntimeError, TypeError, ValueError) as error:
        raise ModelUnsupported(f"nnU-Net cannot build the network of the plans: {_short(error)}") from error
    named = {_original_key(str(key)): tensor for key, tensor in weights.items()}
    real = {name for name, tensor in network.state_dict().items() if tensor.is_floating_point()}
    if not all(
        isinstance(tensor, torch.Tensor) and (tensor.is_floating_point() or name not in real)
        for name, tensor in named.items()
    ):
        raise ModelUnsupported("Its weights are not floating-point tensors; quantised networks are not run.")
    try:
        network.load_state_dict(named, strict=True)
    except RuntimeError as error:
        raise ModelUnsupported(
            "The weights do not fit the network of the plans; another trainer, such as nnUNetTrainerBN, "
            f"builds another network. {_first_difference(error)}"
        ) from error
    return network


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
    """The content of a checkpoint.

    Parameters
    ----------
    path : the file
    trusted : Python objects in it may be loaded

    Raises
    ------
    ModelDamaged
        If it is not a file of PyTorch, or a part of one.
    ModelUnsupported
        If it needs Python code that is not installed.
    ModelNotImportable
        If it holds Python objects, and is not trusted.
    MemoryError
        If there is too little memory.
    """
    if problem := file_problem(path):
        raise ModelDamaged(problem)
    try:
        if trusted:
            return torch.load(path, map_location="cpu", weights_only=False)
        with torch.serialization.safe_globals(_safe_types()):
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        found = re.search(r"GLOBAL ([\w.]+)", str(error))
        if found is None:
            raise ModelDamaged(f"It cannot be read as a checkpoint of PyTorch: {_short(error)}") from error
        raise ModelNotImportable(
            f"It holds more than tensors, numbers and text ({found[1][:100]}), and loading that could run "
            "code. Only if you trust its source, import it with --trust-checkpoints."
        ) from error
    except (ImportError, AttributeError) as error:
        raise ModelUnsupported(
            f"It needs Python code that is not installed here: {_short(error)} Save it again where it was "
            "trained: torch.load(..., weights_only=False), delete what needs the code, torch.save."
        ) from error
    except MemoryError:
        raise
    except Exception as error:  # foreign bytes may raise anything when they are unpickled
        if "allocate memory" in str(error).lower():  # torch's CPU allocator raises a plain RuntimeError
            raise MemoryError from error
        raise ModelDamaged(f"It cannot be read as a checkpoint of PyTorch: {_short(error)}") from error


def _short(error: Exception) -> str:
    """The first line of a message, as a sentence."""
    text = (isinstance(error, OSError) and error.strerror) or str(error).strip() or type(error).__name__
    line = text.splitlines()[0][:160]
    return line if line.endswith(".") else f"{line}."


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
    while key.startswith(_PREFIXES):
        key = key.split(".", maxsplit=1)[1]
    return key


def _save(network: torch.nn.Module, path: Path, *, half_precision: bool) -> None:
    """Write each tensor once: nnU-Net's decoder refers to its encoder, so most tensors have several names."""
    unique: dict[str, torch.Tensor] = {}
    aliases: dict[str, str] = {}
    first: dict[tuple[int, torch.Size, tuple[int, ...]], str] = {}
    unused = _only_in_training(network.state_dict())
    for name, tensor in network.state_dict().items():
        if not torch.isfinite(tensor).all():
            raise ModelDamaged(f"Its weights {name} are not finite numbers; the training failed.")
        if tensor.ndim > 1 and not tensor.any() and name not in unused:
            raise ModelDamaged(f"Its weights {name} are all 0; a copy that was cut off leaves that.")
        source = first.setdefault((tensor.data_ptr(), tensor.shape, tensor.stride()), name)
        if source != name:
            aliases[name] = source
            continue
        stored = tensor.half() if half_precision and tensor.is_floating_point() else tensor
        if not torch.isfinite(stored).all():
            raise ModelUnsupported(f"Its weights {name} are too large for 16 bits; import in full precision.")
        unique[name] = stored.contiguous()
    # One key alone: safetensors writes several in random order, and the same weights got another hash.
    save_file(unique, path, metadata={"aliases": json.dumps(aliases, sort_keys=True)})


def _only_in_training(names: Iterable[str]) -> set[str]:
    """The layers for deep supervision, which no prediction uses and a long training may shrink to 0.

    They are all segmentation layers of the decoder but the last one.
    """
    numbers = {name: int(found[1]) for name in names if (found := _SEGMENTATION_LAYER.match(name))}
    return {name for name, number in numbers.items() if number < max(numbers.values())}


def _largest(request_file: str) -> int:
    requests = json.loads(Path(request_file).read_text(encoding="utf-8"))
    return max((Path(one["checkpoint"]).stat().st_size for one in requests), default=0)


if __name__ == "__main__":
    limit_this_process(_largest(sys.argv[1]))
    sys.exit(main(sys.argv[1:]))
