"""Conversion of pickled checkpoints by another process: this one neither unpickles nor imports torch."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from orgseg_node.errors import ModelContradictory, ModelDamaged, ModelNotImportable, ModelUnsupported
from orgseg_node.inference.bundles.sandbox import find_sandbox, reduced_environment, sandboxed

_LIMIT_S = 3600
_PROBLEMS = {kind.code: kind for kind in (ModelContradictory, ModelDamaged, ModelUnsupported)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversion:
    """One checkpoint to convert.

    Attributes
    ----------
    checkpoint : nnU-Net's pickled ``.pth``
    plans, dataset : the ``plans.json`` and ``dataset.json`` it belongs to
    weights : path of the safetensors file to write
    configuration : such as ``3d_fullres``; None to take it from the checkpoint
    half_precision : store float16
    trusted : Python objects in the pickle may be loaded, which runs their code
    """

    checkpoint: Path
    plans: Path
    dataset: Path
    weights: Path
    configuration: str | None
    half_precision: bool
    trusted: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ConversionResult:
    """Metadata of a checkpoint that was converted.

    Attributes
    ----------
    trainer, configuration : of the network
    mirror_axes : axes of the network along which its trainer mirrored
    not_streamable : why the streaming engine cannot run it, in one sentence; empty if it can
    remarks : what a person must know of the training, as sentences
    renamed : name in the training of each label number that ``dataset.json`` calls otherwise
    """

    trainer: str
    configuration: str
    mirror_axes: tuple[int, ...]
    not_streamable: str = ""
    remarks: tuple[str, ...] = ()
    renamed: Mapping[int, str] = field(default_factory=dict)


def convert_checkpoints(conversions: Sequence[Conversion]) -> tuple[ConversionResult, ...]:
    """Convert pickled checkpoints to safetensors, all in one process, in the best sandbox of the machine.

    Raises
    ------
    ModelNotImportable
        If one of them is damaged, contains more than tensors, or does not fit its plans; with its name.
    """
    with tempfile.TemporaryDirectory(prefix="orgseg-convert-") as scratch:
        request, reply = Path(scratch, "request.json"), Path(scratch, "reply.json")
        request.write_text(json.dumps([_as_json(c) for c in conversions]), encoding="utf-8")
        # -P: nothing is imported from the current folder
        command = [
            sys.executable,
            "-P",
            "-m",
            "orgseg_node.inference.backends.convert",
            str(request),
            str(reply),
        ]
        folders = {conversion.weights.parent.resolve() for conversion in conversions}
        command = sandboxed(command, find_sandbox(), [Path(scratch), *sorted(folders)])
        try:
            done = subprocess.run(
                command,
                capture_output=True,
                check=False,
                timeout=_LIMIT_S,
                env=reduced_environment(Path(scratch)),
            )
        except subprocess.TimeoutExpired:
            raise ModelNotImportable(
                f"The conversion did not finish within {_LIMIT_S // 60} minutes."
            ) from None
        try:
            answers = json.loads(reply.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            raise ModelNotImportable(
                f"The conversion ended without a result, status {done.returncode}; too little memory is the "
                "usual reason."
            ) from None
    for conversion, answer in zip(conversions, answers, strict=False):  # the answers end at the first problem
        if "problem" in answer:
            where = f"{conversion.checkpoint.parent.name}/{conversion.checkpoint.name}"
            raise _PROBLEMS.get(answer["code"], ModelNotImportable)(f"{where}: {answer['problem']}")
    return tuple(
        ConversionResult(
            trainer=answer["trainer"],
            configuration=answer["configuration"],
            mirror_axes=tuple(answer["mirror_axes"]),
            not_streamable=str(answer["not_streamable"]),
            remarks=tuple(answer["remarks"]),
            renamed={int(number): str(name) for number, name in answer["renamed"].items()},
        )
        for answer in answers
    )


def _as_json(conversion: Conversion) -> dict[str, str | bool | None]:
    return {
        "checkpoint": str(conversion.checkpoint.resolve()),
        "plans": str(conversion.plans.resolve()),
        "dataset": str(conversion.dataset.resolve()),
        "weights": str(conversion.weights.resolve()),
        "configuration": conversion.configuration,
        "half_precision": conversion.half_precision,
        "trusted": conversion.trusted,
    }
