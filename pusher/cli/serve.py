"""``pusher serve``."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pusher.cli.base import Command, warn, warn_of_variables
from pusher.cli.password import read_password
from pusher.errors import ExitCode, InvalidOption
from pusher.secret import note_secret

if TYPE_CHECKING:
    from pusher.serve.access import Access
    from pusher.serve.server import Address, Certificate

_FILE = click.Path(path_type=Path, dir_okay=False)


@click.command(cls=Command)
@click.option(
    "--local",
    metavar="DIR",
    required=True,
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of the registry; it is made if it is not there.",
)
@click.option(
    "--listen",
    metavar="HOST:PORT",
    default="127.0.0.1:5055",
    show_default=True,
    help="Where to listen. Beyond this machine it takes a login, and TLS or --plain-http.",
)
@click.option("--username", metavar="USER", help="Ask for a login of this user, whose password is read.")
@click.option("--password-stdin", is_flag=True, help="Read the password from standard input.")
@click.option("--tls-cert", metavar="FILE", type=_FILE, help="Certificate with its chain (PEM).")
@click.option("--tls-key", metavar="FILE", type=_FILE, help="Key of the certificate (PEM).")
@click.option("--plain-http", is_flag=True, help="Listen beyond this machine without TLS.")
def serve(
    local: Path,
    listen: str,
    username: str | None,
    password_stdin: bool,
    tls_cert: Path | None,
    tls_key: Path | None,
    plain_http: bool,
) -> int:
    """Be a registry on this machine.

    docker, podman, buildah, skopeo, crane, oras and others push to it and pull from it. It has all of the OCI
    distribution specification 1.1, and uploads that a client can continue survive a restart.

    At 127.0.0.1 it is for you and root, and for others with the login of --username. Only Linux tells who
    connects; elsewhere every user of the machine gets in. Ctrl-C ends it.

    \b
    Example:
      pusher serve --local ~/registry
      docker push localhost:5055/app:1.2
    """
    from pusher.serve.app import make_app
    from pusher.serve.local import LocalRegistry
    from pusher.serve.server import Address, open_sockets, run_server

    warn_of_variables()
    address = Address.parse(listen)
    certificate = _certificate(tls_cert, tls_key)
    access = _access(address, username, password_stdin=password_stdin, safe=bool(certificate) or plain_http)
    with closing(LocalRegistry(local.expanduser().absolute())) as registry:
        sockets = open_sockets(address)
        port = sockets[0].getsockname()[1]
        scheme = "https" if certificate else "http"
        warn(f"The registry in {registry.folder} is at {scheme}://{address.at(port)}; Ctrl-C ends it.")
        if access.is_local:
            warn(f"Push to it with: docker push localhost:{port}/NAME:TAG")
        number = run_server(make_app(registry, access), sockets, note=warn, certificate=certificate)
    return 128 + number if number else ExitCode.DONE


def _certificate(certificate: Path | None, key: Path | None) -> Certificate | None:
    from pusher.serve.server import Certificate

    if certificate is None and key is None:
        return None
    if certificate is None or key is None:
        raise InvalidOption(
            "--tls-cert and --tls-key belong together", hint="name the certificate and its key: two PEM files"
        )
    return Certificate(certificate, key)


def _access(address: Address, username: str | None, *, password_stdin: bool, safe: bool) -> Access:
    """Raises InvalidOption where others could come in without a login, or see it."""
    from pusher.serve.access import Access, Login

    if not address.is_local and username is None:
        raise InvalidOption(
            f"whoever reaches {address} could push and pull",
            hint="have them log in: --username USER --password-stdin, and add --tls-cert and --tls-key; or "
            "listen at 127.0.0.1:5055, for you alone",
        )
    if not address.is_local and not safe:
        raise InvalidOption(
            f"the password would cross the network to {address} in the clear",
            hint="add --tls-cert and --tls-key, or --plain-http if you trust the network",
        )
    if username is None:
        if password_stdin:
            raise InvalidOption("--password-stdin is given without a user name", hint="add --username USER")
        return Access(address.is_local)
    if ":" in username:
        raise InvalidOption(f"the user name {username!r} has a colon", hint="take another name")
    password = read_password(username, password_stdin=password_stdin)
    note_secret(password, username=username)
    return Access(address.is_local, Login(username, password))
