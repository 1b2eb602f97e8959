"""Certificates of an authority of one's own, made with openssl as an administrator would."""

from __future__ import annotations

import subprocess
from pathlib import Path


def make_certificates(folder: Path) -> dict[str, str]:
    """Files of one member, as a target's ``tls:`` has them: ``ca``, ``cert``, ``key``."""
    folder.mkdir(parents=True)
    ca, ca_key, cert, key, request = (
        folder / name for name in ("ca.pem", "ca.key", "me.pem", "me.key", "me.csr")
    )
    _openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=authority",
             "-keyout", ca_key, "-out", ca)  # fmt: skip
    _openssl("req", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=member", "-keyout", key, "-out", request)
    _openssl(
        "x509",
        "-req",
        "-in",
        request,
        "-CA",
        ca,
        "-CAkey",
        ca_key,
        "-CAcreateserial",
        "-days",
        "2",
        "-out",
        cert,
    )
    return {"ca": str(ca), "cert": str(cert), "key": str(key)}


def _openssl(*arguments: str | Path) -> None:
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True, timeout=60)
