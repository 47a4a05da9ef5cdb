"""What a release consists of: wheel, source archive, bill of materials and checksums, in one folder.

``python -m tools.release [FOLDER]`` (``dist`` if none is named) builds, checks what was built, and uploads
nothing. The bill of materials (CycloneDX, JSON) lists the pinned packages of ``deploy/constraints.txt``, that
images and offline bundles install.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
CHECKSUMS: Final = "SHA256SUMS"
_IN_WHEEL: Final = (
    "orgseg_node/cli/app.py",
    "orgseg_node/py.typed",
    "orgseg_node/shipped_config/organs.toml",
    "orgseg_node/shipped_docs/conformance.md",
    "orgseg_node/bundles/starter-hn/manifest.toml",
    "orgseg_training/cli/app.py",
    "orgseg_training/shipped_workflow/Snakefile",
)
_NOT_IN_WHEEL: Final = re.compile(r"^(tests|tools|benchmarks|deploy|docs)/")


def version() -> str:
    """The version that the package names."""
    text = (ROOT / "orgseg_node" / "__init__.py").read_text(encoding="utf-8")
    found = re.search(r'__version__[^"\n]*= "([^"]+)"', text)
    if found is None:
        raise SystemExit("orgseg_node/__init__.py names no version.")
    return found[1]


def tag_problems(tag: str, changelog: str) -> list[str]:
    """What speaks against releasing under a tag such as ``v0.2.0``; empty if nothing does."""
    problems = []
    if tag != f"v{version()}":
        problems.append(f"the tag {tag} is not v{version()}, the version of the package")
    if f"## [{version()}]" not in changelog:
        problems.append(f"CHANGELOG.md has no section [{version()}]")
    return problems


def build(folder: Path) -> list[Path]:
    """Build wheel and source archive into an empty folder, and check what is in the wheel."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    when = subprocess.run(
        ["git", "log", "-1", "--format=%ct"], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout.strip()
    environment = os.environ | {"SOURCE_DATE_EPOCH": when or "0"}
    command = [sys.executable, "-m", "build", "--outdir", str(folder), str(ROOT)]
    subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL)
    (wheel,) = folder.glob("*.whl")
    (source,) = folder.glob("*.tar.gz")
    names = zipfile.ZipFile(wheel).namelist()
    missing = [name for name in _IN_WHEEL if name not in names]
    foreign = [name for name in names if _NOT_IN_WHEEL.match(name)]
    with tarfile.open(source) as archive:
        top = [name.partition("/")[2] for name in archive.getnames()]
    missing += [
        f"{name} (source archive)" for name in ("README.md", "LICENSE", "Makefile") if name not in top
    ]
    if missing or foreign:
        raise SystemExit(f"The release is wrong: missing {missing}, not meant to be in it {foreign[:5]}.")
    return [wheel, source]


def bill_of_materials(folder: Path) -> Path:
    """Write the CycloneDX bill of materials of the pinned packages."""
    path = folder / f"orgseg_node-{version()}.cdx.json"
    command = [
        sys.executable, "-m", "cyclonedx_py", "requirements", str(ROOT / "deploy" / "constraints.txt"),
        "--pyproject", str(ROOT / "pyproject.toml"), "--output-reproducible", "--of", "JSON", "-o", str(path),
    ]  # fmt: skip
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    found = json.loads(path.read_text(encoding="utf-8"))
    if found.get("bomFormat") != "CycloneDX" or len(found.get("components", [])) < 20:
        raise SystemExit(f"{path.name} is no bill of materials of this project.")
    return path


def checksums(folder: Path) -> Path:
    """Write the SHA-256 of every file of the folder, as ``sha256sum --check`` reads them."""
    files = sorted(path for path in folder.iterdir() if path.name != CHECKSUMS)
    lines = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in files]
    path = folder / CHECKSUMS
    path.write_text("".join(lines), encoding="ascii")
    return path


def main() -> None:
    """Make a release; with ORGSEG_TAG set, first hold the tag against version and changelog."""
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "dist").resolve()
    tag = os.environ.get("ORGSEG_TAG", "")
    problems = tag_problems(tag, (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")) if tag else []
    if problems:
        raise SystemExit("; ".join(problems))
    files = [*build(folder), bill_of_materials(folder)]
    files.append(checksums(folder))
    for path in files:
        print(f"{path.stat().st_size / 1e6:8.2f} MB  {path.name}")


if __name__ == "__main__":
    main()
