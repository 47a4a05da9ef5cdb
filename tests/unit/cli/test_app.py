"""The command line: reference, exit codes, output on stdout, and modules that it does not import."""

from __future__ import annotations

import importlib.util
import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from orgseg_node import __version__
from orgseg_node.cli import app
from orgseg_node.cli.console import FAILED, print_unexpected_error, progress_bar
from orgseg_node.cli.ct import models
from orgseg_node.node.store.store import Store
from orgseg_node.shipped import bundle_folders, shipped_config
from tests.support.models.bundles import write_bundle
from tests.support.node.command_line import orgseg
from tools.docs.reference import reference

DOCS = Path(__file__).resolve().parents[3] / "docs" / "cli.md"

NODE = """
[node]
data_dir = "data"
port = 0

[[peers]]
ae_title = "CT"
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "node.toml"
    path.write_text(NODE)
    return path


@pytest.fixture
def no_bundles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "bundles"
    folder.mkdir()
    monkeypatch.setenv("ORGSEG_BUNDLES", str(folder))
    return folder


def test_the_reference_describes_the_program() -> None:
    assert DOCS.read_text(encoding="utf-8") == reference()


def test_every_promised_command_is_in_the_reference() -> None:
    promised = ["node run", "segment", "info", "echo", "send", "doctor", "demo", "config check"]
    promised += [f"models {verb}" for verb in ("list", "show", "verify", "add")] + ["jobs list", "jobs show"]
    text = reference()
    assert [name for name in promised if f"\n## orgseg {name}\n" not in text] == []


def test_the_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    answer = orgseg(capsys, "--version")
    assert (answer.status, answer.out) == (0, f"orgseg_node {__version__}\n")


@pytest.mark.parametrize(
    "arguments",
    [
        ("nonsense",),
        ("info",),
        ("info", "/no/such/folder"),
        ("segment", ".", ".", "--method", "half"),
        ("segment", ".", ".", "--backend", "faster"),
        ("segment", ".", ".", "--memory-budget-mb", "0"),
        ("segment", ".", ".", "--threads", "0"),
        ("jobs", "list"),
    ],
)
def test_wrong_usage_is_exit_code_2(capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...]) -> None:
    answer = orgseg(capsys, *arguments)
    assert answer.status == 2
    assert answer.out == ""


def test_info_shows_the_geometry(capsys: pytest.CaptureFixture[str], ct_folder: Path) -> None:
    answer = orgseg(capsys, "info", ct_folder)
    assert answer.status == 0
    assert "24 slices of 64 x 64 pixels, 4 x 4 mm, every 3 mm" in answer.out


def test_info_prints_nothing_but_json_on_stdout(capsys: pytest.CaptureFixture[str], ct_folder: Path) -> None:
    answer = orgseg(capsys, "info", ct_folder, "--json")
    (series,) = json.loads(answer.out)["accepted"]
    assert (series["slices"], series["slice_spacing_mm"], series["patient_position"]) == (24, 3.0, "HFS")


def test_info_prints_no_patient_data(capsys: pytest.CaptureFixture[str], ct_folder: Path) -> None:
    output = orgseg(capsys, "info", ct_folder).out + orgseg(capsys, "info", ct_folder, "--json").out
    assert "Phantom^Ellipse" not in output
    assert "PHANTOM-1" not in output


def test_a_right_configuration_is_exit_code_0(capsys: pytest.CaptureFixture[str], config: Path) -> None:
    assert orgseg(capsys, "config", "check", config).status == 0
    assert json.loads(orgseg(capsys, "config", "check", config, "--json").out)["node"]["ae_title"] == "ORGSEG"


def test_the_configuration_that_comes_with_the_node_is_right(capsys: pytest.CaptureFixture[str]) -> None:
    assert orgseg(capsys, "config", "check", shipped_config("node.toml")).status == 0


def test_a_wrong_configuration_is_exit_code_3_with_every_problem(
    capsys: pytest.CaptureFixture[str], config: Path
) -> None:
    config.write_text(NODE.replace("port = 0", 'port = "x"\nprot = 1'))
    answer = orgseg(capsys, "config", "check", config)
    assert (answer.status, answer.code) == (3, "CONFIG")
    assert "node.port" in answer.err
    assert "node.prot" in answer.err
    assert "Next step: " in answer.err


def test_the_node_does_not_start_with_a_wrong_configuration(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert orgseg(capsys, "node", "run", "--config", tmp_path / "none.toml").status == 3


def test_jobs_of_a_node_that_never_ran_is_a_coded_error(
    capsys: pytest.CaptureFixture[str], config: Path
) -> None:
    answer = orgseg(capsys, "jobs", "list", "--config", config)
    assert (answer.status, answer.code) == (1, "STORAGE_NO_NODE")
    assert "orgseg node run" in answer.err
    assert "disk" not in answer.err


def test_jobs_of_a_node_without_jobs_is_an_empty_list(
    capsys: pytest.CaptureFixture[str], config: Path
) -> None:
    Store(config.parent / "data").close()
    answer = orgseg(capsys, "jobs", "list", "--config", config, "--json")
    assert (answer.status, json.loads(answer.out)) == (0, {"jobs": [], "series": []})
    assert orgseg(capsys, "jobs", "list", "--config", config).status == 0


def test_an_unknown_job_is_a_coded_error(capsys: pytest.CaptureFixture[str], config: Path) -> None:
    Store(config.parent / "data").close()
    answer = orgseg(capsys, "jobs", "show", "abc", "--config", config)
    assert (answer.status, answer.code) == (1, "STORAGE_UNKNOWN_JOB")


def test_doctor_finds_a_configured_bundle_missing(
    capsys: pytest.CaptureFixture[str], config: Path, no_bundles: Path
) -> None:
    config.write_text(NODE + '\n[inference]\nbundles = ["nowhere"]\n')
    answer = orgseg(capsys, "doctor", "--config", config, "--json")
    checks = {check["name"]: check for check in json.loads(answer.out)}
    assert answer.status == 1
    assert checks["bundle nowhere"]["level"] == "error"
    assert "BUNDLE_UNKNOWN" in checks["bundle nowhere"]["message"]
    assert {"python", "packages", "torch", "gpu", "disk", "port"} <= checks.keys()


def test_doctor_looks_for_bundles_where_the_node_does_and_for_the_calibration_of_the_fast_mode(
    capsys: pytest.CaptureFixture[str], config: Path, no_bundles: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_bundle(config.parent / "data" / "bundles" / "paper-bundle")
    config.write_text(NODE + '\n[inference]\nbundles = ["paper-bundle", "starter-hn"]\nbackend = "fast"\n')
    checks = {
        check["name"]: check
        for check in json.loads(orgseg(capsys, "doctor", "--config", config, "--json").out)
    }
    assert checks["bundle paper-bundle"]["level"] == "info"
    assert checks["fast mode paper-bundle"]["level"] == "error"
    installed = importlib.util.find_spec("openvino") is not None
    code = "BUNDLE_NOT_CALIBRATED" if installed else "ENVIRONMENT_OPENVINO"
    assert checks["fast mode paper-bundle"]["message"].startswith(f"{code}: ")
    config.write_text(NODE + '\n[inference]\nbundles = ["paper-bundle"]\nbackend = "compiled"\n')
    monkeypatch.setenv("CXX", "no-such-compiler")
    answer = orgseg(capsys, "doctor", "--config", config).out
    assert "compiled mode paper-bundle: ENVIRONMENT_COMPILER: " in answer
    config.write_text(NODE + '\n[inference]\nbundles = ["paper-bundle"]\n')
    assert "fast mode" not in orgseg(capsys, "doctor", "--config", config).out


def test_doctor_with_a_wrong_configuration_is_exit_code_3(
    capsys: pytest.CaptureFixture[str], config: Path
) -> None:
    config.write_text("nonsense = 1")
    answer = orgseg(capsys, "doctor", "--config", config)
    assert answer.status == 3
    assert "CONFIG" in answer.out


QUIET = """
import sys
from orgseg_node.cli import main
try:
    main(sys.argv[1:])
except SystemExit as end:
    assert not end.code, end.code
assert not {"torch", "nnunetv2"} & sys.modules.keys()
"""


@pytest.mark.parametrize("command", ["info", "config", "jobs", "models"])
def test_these_commands_never_import_torch(
    command: str, ct_folder: Path, config: Path, no_bundles: Path
) -> None:
    Store(config.parent / "data").close()
    arguments = {
        "info": ["info", str(ct_folder)],
        "config": ["config", "check", str(config)],
        "jobs": ["jobs", "list", "--config", str(config)],
        "models": ["models", "list"],
    }[command]
    done = subprocess.run(
        [sys.executable, "-c", QUIET, *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_a_user_who_may_not_read_the_data_folder_is_told_whose_it_is(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied", str(tmp_path / "data" / "db" / "node.sqlite"))

    monkeypatch.setattr(app, "build_app", lambda: lambda **_: refuse())
    answer = orgseg(capsys, "jobs", "list")
    assert (answer.status, answer.code) == (4, "ENVIRONMENT_PERMISSION")
    assert f"{tmp_path} belongs to the user {tmp_path.owner()}" in answer.err
    assert "sudo -u" in answer.err


def test_without_a_terminal_each_tenth_is_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    with progress_bar() as on_progress:
        for step in range(0, 101, 2):
            on_progress(step / 100, f"CT [1] of 2, {step}")
            assert f"{step}%" in capsys.readouterr().err or step % 10
        on_progress(0.99, "a little back")
        on_progress(1.0, "again")
        assert capsys.readouterr().err == ""
        on_progress(0.0, "CT [2] of 2")
    assert capsys.readouterr().err == "  0% after 0:00:00  CT [2] of 2\n"


def test_an_unexpected_error_gives_a_code_and_a_private_log_and_no_traceback(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    print_unexpected_error(RuntimeError("deep inside"))
    output = capsys.readouterr().err
    (log,) = tmp_path.glob("orgseg-error-*.log")
    assert "UNEXPECTED" in output
    assert str(log) in output
    assert "Traceback" not in output
    assert "deep inside" in log.read_text()
    assert stat.S_IMODE(log.stat().st_mode) == 0o600


def test_exit_codes_have_their_numbers() -> None:
    assert FAILED == 1


def test_bundles_are_searched_in_the_folders_of_the_environment_variable(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    monkeypatch.setenv("ORGSEG_BUNDLES", os.pathsep.join(map(str, (one, two))))
    assert bundle_folders() == (one, two)
    monkeypatch.delenv("ORGSEG_BUNDLES")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert bundle_folders() == (tmp_path / "orgseg" / "bundles",)


def test_a_name_that_is_none_is_an_option_to_correct(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    answer = orgseg(capsys, "models", "add", tmp_path, "--name", "hn@live")
    assert (answer.status, answer.code) == (2, "USAGE")
    assert "'hn@live' must be" in answer.err


def test_a_bundle_is_called_as_the_data_set_of_its_model(tmp_path: Path) -> None:
    trained = tmp_path / "Dataset101 Hals" / "nnUNetTrainer__nnUNetPlans__3d_fullres"
    trained.mkdir(parents=True)
    (tmp_path / "export v1.2.zip").touch()
    assert models._name_of(trained) == models._name_of(trained.parent) == "Dataset101_Hals"
    assert models._name_of(tmp_path / "export v1.2.zip") == "export_v1.2"
    exported = tmp_path / f"{trained.name}.zip"
    exported.touch()
    assert models._name_of(exported) == trained.name
    (tmp_path / "Dataset102_Hals__neu").mkdir()
    assert models._name_of(tmp_path / "Dataset102_Hals__neu") == "Dataset102_Hals__neu"
