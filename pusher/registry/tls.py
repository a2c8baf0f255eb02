"""Whom we believe to be a registry: certificate authorities, client certificates, and what goes wrong."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path

import truststore


@dataclass(frozen=True)
class Trust:
    """How the certificate of one host is verified."""

    ca_cert: Path | None = None
    """PEM file of authorities that are trusted besides the operating system's."""
    insecure: bool = False
    """The certificate is not verified at all."""
    certs_dirs: tuple[Path, ...] = ()
    """``certs.d`` folders of Docker and Podman."""


def context(trust: Trust, host: str) -> ssl.SSLContext:  # noqa: ARG001
    """The TLS context for connections to ``host`` (``host[:port]``)."""
    return truststore.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
