"""Certificates for tests of TLS, made by openssl."""

import subprocess
from pathlib import Path

from tests.integration.waiting import PATIENCE
from tests.programs import program


def make(folder: Path, name: str, *, expired: bool = False) -> tuple[Path, Path]:
    """Return the files of a certificate for 127.0.0.1, and of its key. Existing ones are
    replaced."""
    chain, key, request = (folder / f"{name}.{kind}" for kind in ("pem", "key", "csr"))
    names = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    _openssl("req", "-new", *curve, *names, "-keyout", key, "-out", request)
    days = -1 if expired else 30
    _openssl(
        *("x509", "-req", "-in", request, "-signkey", key, "-days", days, "-out", chain),
        *("-copy_extensions", "copyall"),
    )
    return chain, key


def _openssl(*words: object) -> None:
    command = [program("openssl"), *map(str, words)]
    subprocess.run(command, check=True, capture_output=True, timeout=PATIENCE)
