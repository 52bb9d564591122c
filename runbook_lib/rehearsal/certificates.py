"""Certificates of a scene: an authority of its own, and one that it signed for this machine, valid or not any more."""

from __future__ import annotations

import shutil
import ssl
import subprocess
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from runbook_lib.errors import CouldNotBeDone

_SUBJECT_ALTERNATIVES = "subjectAltName = IP:127.0.0.1, DNS:localhost\n"
_CONFIGURATION = """
[ca]
default_ca = ours
[ours]
database = {directory}/index
serial = {directory}/serial
new_certs_dir = {directory}
default_md = sha256
policy = any
[any]
commonName = supplied
"""


@dataclass(frozen=True)
class SiteCertificate:
    """`authority` is what clients must trust, `chain` the site's certificate and key."""

    authority: Path
    chain: Path

    def context(self) -> ssl.SSLContext:
        """For a server that shows it."""
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(self.chain)
        return context


def site_certificate(directory: Path, *, ends: timedelta) -> SiteCertificate:
    """A certificate for this machine that was made a month ago and ends then, seen from now.

    Raises `CouldNotBeDone` without the program openssl.
    """
    if shutil.which("openssl") is None:
        raise CouldNotBeDone("No certificate can be made here: there is no program openssl.")
    now = datetime.now(UTC)
    authority, key, request, chain = (directory / name for name in ("authority.pem", "key.pem", "request.pem", "chain.pem"))  # fmt: skip
    (directory / "index").touch()
    (directory / "serial").write_text("01\n")
    (directory / "ca.cnf").write_text(_CONFIGURATION.format(directory=directory))
    (directory / "names.cnf").write_text(_SUBJECT_ALTERNATIVES)
    new_key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    _openssl("req", "-x509", *new_key, "-keyout", str(directory / "authority.key"), "-out", str(authority),
             "-subj", "/CN=rehearsal authority", "-days", "3650")  # fmt: skip
    _openssl(
        "req", "-new", *new_key, "-keyout", str(key), "-out", str(request), "-subj", "/CN=localhost"
    )
    _openssl(
        "ca", "-batch", "-config", str(directory / "ca.cnf"), "-cert", str(authority), "-keyfile", str(directory / "authority.key"),
        "-in", str(request), "-out", str(chain), "-notext", "-extfile", str(directory / "names.cnf"),
        "-startdate", _moment(now - timedelta(days=30)), "-enddate", _moment(now + ends),
    )  # fmt: skip
    chain.write_text(chain.read_text() + key.read_text())
    return SiteCertificate(authority, chain)


def _moment(when: datetime) -> str:
    return when.strftime("%Y%m%d%H%M%SZ")


def _openssl(*words: str) -> None:
    answer = subprocess.run(["openssl", *words], capture_output=True, text=True, check=False)
    if answer.returncode:
        raise CouldNotBeDone(f"openssl {words[0]} failed: {answer.stderr.strip()[-300:]}")
