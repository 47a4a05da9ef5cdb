"""Print the exact version of every package the node needs, as pip reads them: the pins of images and bundles.

Run it in an environment in which the tests passed: ``python deploy/pins.py > deploy/constraints.txt``. What
only tests and training need is not listed. The local part of a version (``+cpu``) is left out, because it
says which build was installed here and not which version.
"""

from __future__ import annotations

import sys
from importlib import metadata

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

_PROJECT = "orgseg-node"
_EXTRAS = frozenset({"fast"})  # what the node can run with besides what it cannot run without
_HEAD = """# The exact versions of all packages that the node runs on; made by deploy/pins.py, not by hand.
# The wheels of torch for NVIDIA GPUs need packages of their own (nvidia-*), which torch itself pins.
"""


def needed(project: str = _PROJECT, extras: frozenset[str] = _EXTRAS) -> dict[str, str]:
    """Name and version of each package that a project needs, with what those need in turn.

    Raises
    ------
    importlib.metadata.PackageNotFoundError
        If one of them is not installed.
    """
    found: dict[str, str] = {}
    seen: set[tuple[str, str]] = set()
    waiting = [(project, extra) for extra in ("", *sorted(extras))]
    while waiting:
        name, extra = waiting.pop()
        if (name, extra) in seen:
            continue
        seen.add((name, extra))
        for line in metadata.requires(name) or []:
            requirement = Requirement(line)
            if requirement.marker is not None and not requirement.marker.evaluate({"extra": extra}):
                continue
            child = canonicalize_name(requirement.name)
            found[child] = Version(metadata.version(child)).public
            waiting += [(child, each) for each in ("", *sorted(requirement.extras))]
    found.pop(project, None)
    return dict(sorted(found.items()))


def text() -> str:
    """The pins as a file for pip."""
    return _HEAD + "".join(f"{name}=={version}\n" for name, version in needed().items())


if __name__ == "__main__":
    sys.stdout.write(text())
