"""A certificate authority of the tests' own, made by the openssl program."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """PEM files of a certificate and its key."""

    certificate: Path
    key: Path

    @property
    def sha256(self) -> str:
        """Fingerprint as openssl prints it, in capitals with colons."""
        printed = _openssl("x509", "-in", self.certificate, "-noout", "-fingerprint", "-sha256")
        return printed.strip().partition("=")[2]


def _openssl(*arguments: object) -> str:
    program = shutil.which("openssl")
    if program is None:
        pytest.skip("openssl is not installed")
    command = [program, *map(str, arguments)]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout


class Authority:
    """Signs certificates.

    Parameters
    ----------
    folder : where everything is written
    name : common name of the authority, and of its files
    """

    def __init__(self, folder: Path, name: str = "clinic-ca") -> None:
        self._folder = folder
        self._key = folder / f"{name}.key"
        self.certificate = folder / f"{name}.crt"
        _openssl(
            *("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
            *("-keyout", self._key, "-out", self.certificate, "-days", 3, "-subj", f"/CN={name}"),
        )

    def sign(self, name: str, *, days: int = 3, rsa: bool = False) -> Pair:
        """A certificate for 127.0.0.1 and for a name; with days below zero it has expired."""
        pair = Pair(certificate=self._folder / f"{name}.crt", key=self._folder / f"{name}.key")
        request, more = self._folder / f"{name}.csr", self._folder / f"{name}.ext"
        kind = ["rsa:2048"] if rsa else ["ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
        _openssl(
            "req", "-new", "-newkey", *kind, "-nodes", "-keyout", pair.key, "-out", request,
            "-subj", f"/CN={name}",
        )  # fmt: skip
        more.write_text(f"subjectAltName=IP:127.0.0.1,DNS:{name}.clinic\n", encoding="ascii")
        _openssl(
            "x509", "-req", "-in", request, "-CA", self.certificate, "-CAkey", self._key, "-CAcreateserial",
            "-out", pair.certificate, "-days", days, "-extfile", more,
        )  # fmt: skip
        pair.key.chmod(0o600)
        return pair
