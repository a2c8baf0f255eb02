"""Load the certificate files of a TLS context: ``--ca-cert``, the environment's, and ``certs.d``."""

from __future__ import annotations

import os
import ssl
from collections.abc import Iterator
from pathlib import Path

from pusher.errors import CertificateFileUnusable
from pusher.reference import canonical_registry
from pusher.text import suggest

_PEM_HINT = "give a file of PEM certificates (they begin with -----BEGIN CERTIFICATE-----)"


def add_authorities(context: ssl.SSLContext, ca_cert: Path | None) -> None:
    """Trust the authorities of ``ca_cert`` and of the environment as well.

    SSL_CERT_FILE is OpenSSL's variable; it is read here for systems whose trust store is not OpenSSL's. As in
    OpenSSL, a missing file is skipped. The other two variables are those of requests and curl.
    Raises CertificateFileUnusable.
    """
    if ca_cert is not None:
        _add_authority(context, ca_cert, str(ca_cert))
    if (file := os.environ.get("SSL_CERT_FILE")) and Path(file).is_file():
        _add_authority(context, Path(file), f"{file} (SSL_CERT_FILE)")
    for variable in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        if bundle := os.environ.get(variable):
            if Path(bundle).is_dir():  # certificates named by their hashes, read on demand
                context.load_verify_locations(capath=bundle)
            else:
                _add_authority(context, Path(bundle), f"{bundle} ({variable})")
            return


def check_readable(ca_cert: Path, shown: str) -> None:
    """Raise CertificateFileUnusable, in which the file is ``shown``, if it cannot be read."""
    _read(ca_cert, shown)


def add_certs_dir(context: ssl.SSLContext, folders: tuple[Path, ...], host: str) -> None:
    """Apply the first ``FOLDER/host[:port]/`` that exists: ``*.crt`` are authorities, ``*.cert`` with
    ``*.key`` client certificates.

    The rules are Docker's (moby ``daemon/pkg/registry/registry.go``, ``loadTLSConfig``) and those of
    containers-certs.d(5). Raises CertificateFileUnusable.
    """
    for folder in folders:
        site = folder / canonical_registry(host)
        try:
            names = sorted(path.name for path in site.iterdir())
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            raise _unreadable_error(site, str(site), error) from None
        for name in names:
            if name.endswith(".crt"):
                _add_authority(context, site / name, str(site / name))
        # the last of a kind counts for OpenSSL, the first for Docker
        for certificate, key in reversed(list(_client_pairs(site, names))):
            _add_client_pair(context, certificate, key)
        return


def _client_pairs(site: Path, names: list[str]) -> Iterator[tuple[Path, Path]]:
    for name in names:
        stem, dot, kind = name.rpartition(".")
        if kind == "cert" and dot:
            if f"{stem}.key" not in names:
                raise CertificateFileUnusable(
                    f"{site / name} is a client certificate without its key {stem}.key",
                    hint=f"put {stem}.key beside it; the certificate of a CA must end in .crt",
                )
            yield site / name, site / f"{stem}.key"
        elif kind == "key" and dot and f"{stem}.cert" not in names:
            raise CertificateFileUnusable(
                f"{site / name} is a key without its client certificate {stem}.cert",
                hint=f"put {stem}.cert beside it, or move the key away",
            )


def _add_authority(context: ssl.SSLContext, path: Path, shown: str) -> None:
    data = _read(path, shown)
    try:
        context.load_verify_locations(cafile=path)
    except ssl.SSLError as error:
        if data.startswith(b"\x30\x82"):
            raise CertificateFileUnusable(
                f"{shown} is a certificate in DER form, and PEM is needed",
                hint=suggest(
                    "convert it: openssl x509 -inform der -in {} -out {}", path, path.with_suffix(".pem")
                ),
            ) from None
        if b"-----BEGIN CERTIFICATE-----" in data:
            raise CertificateFileUnusable(
                f"{shown} contains a damaged certificate ({_reason(error)})",
                hint="get the file again from its source",
            ) from None
        raise CertificateFileUnusable(f"{shown} contains no certificate", hint=_PEM_HINT) from None


def _add_client_pair(context: ssl.SSLContext, certificate: Path, key: Path) -> None:
    _read(certificate, str(certificate))
    _read(key, str(key))
    locked = False

    def no_pass_phrase() -> str:
        nonlocal locked
        locked = True  # OpenSSL would prompt for it on the terminal
        return ""

    try:
        context.load_cert_chain(certificate, key, password=no_pass_phrase)
    except (ssl.SSLError, ValueError) as error:
        if locked:
            raise CertificateFileUnusable(
                f"the key {key} is encrypted with a passphrase",
                hint=suggest(
                    "store it without one, readable only by you: openssl pkey -in {} -out {}", key, key.name
                ),
            ) from None
        mismatch = getattr(error, "reason", "") == "KEY_VALUES_MISMATCH"
        why = "do not belong together" if mismatch else f"are unusable ({_reason(error)})"
        raise CertificateFileUnusable(
            f"the client certificate {certificate} and its key {key.name} {why}",
            hint="both must be PEM files, made for each other",
        ) from None


def _read(path: Path, shown: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise _unreadable_error(path, shown, error) from None


def _unreadable_error(path: Path, shown: str, error: OSError) -> CertificateFileUnusable:
    why = {
        FileNotFoundError: "does not exist",
        PermissionError: "cannot be read by this user",
        IsADirectoryError: "is a folder, not a file",
    }.get(type(error), f"cannot be read ({error.strerror})")
    return CertificateFileUnusable(f"{shown} {why}", hint=suggest("check it: ls -l {}", path))


def _reason(error: Exception) -> str:
    return (getattr(error, "reason", None) or str(error)).replace("_", " ").lower()
