"""A real model bundle with random weights: its contours mean nothing, but its objects are complete."""

from __future__ import annotations

from pathlib import Path

import pytest

from orgseg_node.cli import main
from tests.support.models.tiny_nnunet import TinyModel, write_tiny
from tests.support.processes.once import once


@pytest.fixture(scope="session")
def bundles(_own_cache: None) -> Path:
    """A folder with one bundle, ``tiny``, imported as a user would."""
    return once("e2e", _bundles)


def _bundles(folder: Path) -> Path:
    model = TinyModel(
        labels={"brainstem": 1, "spinal_cord": 2, "mandible": 3},
        spacing_mm=(6.0, 12.0, 12.0),
        patch=(16, 16, 16),
        gain=3.0,
    )
    trained, bundles = write_tiny(folder / "trained", model), folder / "bundles"
    _run("models", "add", trained, "--name", "tiny", "--outside-to-air", "--to", bundles)
    return bundles


def _run(*arguments: object) -> None:
    try:
        main([str(argument) for argument in arguments])
    except SystemExit as end:
        assert not end.code, end.code  # noqa: PT017  # a command ends by SystemExit, also when all is well


@pytest.fixture
def with_bundles(bundles: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The bundle is where the command line looks."""
    monkeypatch.setenv("ORGSEG_BUNDLES", str(bundles))
    return bundles


@pytest.fixture(scope="session")
def result(bundles: Path, ct: Path) -> Path:
    """What ``orgseg segment`` made of the phantom; no test changes it."""

    def segment(folder: Path) -> Path:
        with pytest.MonkeyPatch.context() as environment:
            environment.setenv("ORGSEG_BUNDLES", str(bundles))
            _run("segment", ct, folder / "out", "--device", "cpu")
        return folder / "out"

    return once("e2e-result", segment)
