"""Configuration section ``inference``: the models that contour, and how they are run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, Field, model_validator

from orgseg_node.node.config.section import Section


def _names(value: tuple[str, ...]) -> tuple[str, ...]:
    repeated = sorted({name for name in value if value.count(name) > 1})
    if repeated:
        raise ValueError(f"named twice: {', '.join(repeated)}")
    if any("," in name for name in value):
        raise ValueError("a name holds no comma")
    return value


Names = Annotated[tuple[str, ...], AfterValidator(_names)]


_NETWORK_SETTINGS: Final = (  # those that `InferenceSettings` takes
    "method",
    "chunk_mm",
    "overlap_mm",
    "device",
    "threads",
    "backend",
    "memory_budget_mb",
    "skip_outside_body",
    "guided",
)


def inference_contradictions(section: dict[str, Any]) -> list[str]:
    """List contradictions in the section ``inference``; also runs on a configuration with invalid fields.

    These are the rules of `InferenceSettings`, which is not imported here: every command would start later.
    """
    problems = []
    chunk_mm, overlap_mm = section.get("chunk_mm", 300.0), section.get("overlap_mm", 50.0)
    if all(isinstance(mm, (int, float)) for mm in (chunk_mm, overlap_mm)) and overlap_mm >= chunk_mm:
        problems.append("overlap_mm must be smaller than chunk_mm")
    backend = section.get("backend")
    if backend in {"fast", "compiled"} and section.get("method", "streaming") != "streaming":
        problems.append(f"backend '{backend}' needs method 'streaming'")
    if backend == "fast" and section.get("device") == "cuda":
        problems.append(
            "backend 'fast' runs on the CPU: device must be 'auto' or 'cpu'; 'compiled' is for GPUs"
        )
    return problems


class InferenceSection(Section):
    """Which models contour, and how; `InferenceSettings` explains each setting."""

    bundles: Names = ("starter-hn",)
    bundle_folders: tuple[Path, ...] = ()
    device: Literal["auto", "cpu", "cuda"] = "auto"
    method: Literal["streaming", "whole", "chunked"] = "streaming"
    backend: Literal["exact", "fast", "compiled"] = "exact"
    memory_budget_mb: Annotated[int, Field(ge=1)] | None = None
    skip_outside_body: bool | None = None
    guided: bool = True
    threads: Annotated[int, Field(ge=1)] | None = None
    chunk_mm: Annotated[float, Field(ge=60, le=2000)] = 300.0
    overlap_mm: Annotated[float, Field(ge=0, le=500)] = 50.0
    time_limit_s: Annotated[float, Field(gt=0, le=86400)] = 3600.0
    attempts: Annotated[int, Field(ge=1, le=5)] = 2

    @model_validator(mode="after")
    def _check(self) -> InferenceSection:
        if not self.bundles:
            raise ValueError("bundles: name at least one model bundle")
        problems = inference_contradictions(self.model_dump())
        if problems:
            raise ValueError("\n".join(problems))
        return self

    def settings(self) -> dict[str, Any]:
        """How the networks are run: the arguments of `InferenceSettings` as JSON values.

        The child process and the job identifier are both made from this, so that they cannot differ.
        """
        return self.model_dump(mode="json", include=set(_NETWORK_SETTINGS))
