"""A token server whose tokens the real distribution registry believes (docs/content/spec/auth/jwt.md)."""

from __future__ import annotations

import base64
import json
import secrets
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding

from tests.support.tokens import SERVICE, Grants, TokenServer

_ISSUER: Final = "the tests"
_LEEWAY: Final = 60
"""Seconds that distribution lets a token live on (registry/auth/token/token.go): taken off here, so that it
really ends when it says."""


class JwtServer(TokenServer):
    """Signs with a key of its own; ``auth`` is for the registry's configuration."""

    def __init__(self, folder: Path, *, login: tuple[str, str], life: int) -> None:
        super().__init__(login=login, life=life)
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._certificate = _self_signed(self._key)
        self._bundle = folder / "tokens.pem"
        self._bundle.write_bytes(self._certificate.public_bytes(Encoding.PEM))

    @property
    def auth(self) -> dict[str, Any]:
        return {
            "token": {
                "realm": self.realm,
                "service": SERVICE,
                "issuer": _ISSUER,
                "rootcertbundle": str(self._bundle),
            }
        }

    def make(self, granted: Grants) -> str:
        der = base64.b64encode(self._certificate.public_bytes(Encoding.DER)).decode()
        now = time.time()
        claims = {
            "iss": _ISSUER,
            "sub": self.login[0],
            "aud": SERVICE,
            "exp": int(now) + self.life - _LEEWAY,
            "nbf": int(now) - 600,
            "iat": int(now) - 600,
            "jti": secrets.token_hex(8),
            "access": [
                {"type": kind, "name": name, "actions": sorted(actions)}
                for resource, actions in granted.items()
                for kind, _, name in [resource.partition(":")]
            ],
        }
        text = ".".join(_encoded(part) for part in ({"typ": "JWT", "alg": "ES256", "x5c": [der]}, claims))
        r, s = decode_dss_signature(self._key.sign(text.encode(), ec.ECDSA(hashes.SHA256())))
        return f"{text}.{_base64(r.to_bytes(32, 'big') + s.to_bytes(32, 'big'))}"


def _self_signed(key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, _ISSUER)])
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )


def _encoded(part: object) -> str:
    return _base64(json.dumps(part).encode())


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
