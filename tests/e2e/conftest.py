"""A real model bundle with random weights: its contours mean nothing, but its objects are complete."""

from __future__ import annotations

from pathlib import Path

import pytest

from orgseg_node.cli import main
from tests.support.ct.phantom import build_ct_series
from tests.support.models.tiny_nnunet import TinyModel, write_tiny


@pytest.fixture(scope="session")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one bundle, ``tiny``, imported as a user would."""
    folder = tmp_path_factory.mktemp("bundles")
    model = TinyModel(
        labels={"brainstem": 1, "spinal_cord": 2, "mandible": 3},
        spacing_mm=(6.0, 12.0, 12.0),
        patch=(16, 16, 16),
        gain=3.0,
    )
    trained = write_tiny(tmp_path_factory.mktemp("trained"), model)
    try:
        main(["models", "add", str(trained), "--name", "tiny", "--outside-to-air", "--to", str(folder)])
    except SystemExit as end:
        assert not end.code, end.code  # noqa: PT017  # a command ends by SystemExit, also when all is well
    return folder


@pytest.fixture
def with_bundles(bundles: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The bundle is where the command line looks."""
    monkeypatch.setenv("ORGSEG_BUNDLES", str(bundles))
    return bundles


@pytest.fixture(scope="session")
def ct(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A phantom CT that no test changes."""
    folder = tmp_path_factory.mktemp("ct")
    build_ct_series(folder)
    return folder


@pytest.fixture(scope="session")
def result(bundles: Path, ct: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What ``orgseg segment`` made of the phantom; no test changes it."""
    out = tmp_path_factory.mktemp("result")
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("ORGSEG_BUNDLES", str(bundles))
        try:
            main(["segment", str(ct), str(out), "--device", "cpu"])
        except SystemExit as end:
            assert not end.code, end.code  # noqa: PT017  # a command ends by SystemExit, also when all is well
    return out
