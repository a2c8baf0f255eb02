"""Implement ``pusher serve``."""

from __future__ import annotations

import socket
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pusher.cli.command import Command, progress_option
from pusher.cli.output import print_notice
from pusher.cli.password import read_password, with_password
from pusher.cli.settings import read_settings, warn_of_unknown_variables
from pusher.cli.store import open_store
from pusher.cli.work import report_result, work
from pusher.dataclass import dataclass
from pusher.errors import ExitCode, InvalidOption
from pusher.secret import note_secret

if TYPE_CHECKING:
    from pusher.progress.base import Progress
    from pusher.serve.access import Access
    from pusher.serve.server import Address, Certificate

_FILE = click.Path(path_type=Path, dir_okay=False)


@click.command(cls=Command)
@click.option(
    "--local",
    metavar="DIR",
    type=click.Path(path_type=Path, file_okay=False),
    help="Keep what is pushed in this folder, which is made if it is not there, and forward nothing.",
)
@click.option(
    "--delete-unused",
    metavar="AGE",
    help="With --local: delete blobs that no manifest names and no client used for so long, such as 24h.",
)
@click.option(
    "--to",
    metavar="REGISTRY[/PREFIX]",
    help="Forward every name to below this place; without it the first part of a name is the registry.",
)
@click.option(
    "--acknowledge",
    type=click.Choice(["pushed", "received"]),
    default="pushed",
    show_default=True,
    help="When a forwarded push is answered: once the destination has everything, or once it is on disk here "
    "and in the queue.",
)
@click.option(
    "--listen",
    metavar="HOST:PORT",
    default="127.0.0.1:5055",
    show_default=True,
    help="Address to listen on. Beyond this machine, a login and TLS or --plain-http are required.",
)
@click.option(
    "--username", metavar="USER", help="Ask clients for a login of this user, whose password is read."
)
@click.option("--password-stdin", is_flag=True, help="Read that password from standard input.")
@click.option(
    "--htpasswd",
    metavar="FILE",
    type=_FILE,
    help="Ask clients for a login of this file, as htpasswd -B makes it.",
)
@click.option("--tls-cert", metavar="FILE", type=_FILE, help="Certificate with its chain (PEM).")
@click.option("--tls-key", metavar="FILE", type=_FILE, help="Key of the certificate (PEM).")
@click.option("--plain-http", is_flag=True, help="Listen beyond this machine without TLS.")
@progress_option
def serve(
    local: Path | None,
    delete_unused: str | None,
    to: str | None,
    acknowledge: str,
    listen: str,
    username: str | None,
    password_stdin: bool,
    htpasswd: Path | None,
    tls_cert: Path | None,
    tls_key: Path | None,
    plain_http: bool,
    progress: str,
) -> int:
    """Run a registry that forwards pushes, or keeps them.

    docker, podman, buildah, skopeo, crane, oras and others push here, and the queue does the rest: it is
    worked as by pusher run --forever, with the settings and logins that pusher run takes. The registry to
    push to is the first part of the name (registry.example.com_5000 if it has a port), unless --to names it.
    Pulls are passed on. A browser finds the jobs at /, Prometheus figures at /metrics.

    At 127.0.0.1 it is for you and root, and for others with the login of --username or --htpasswd. Only
    Linux reports which user connects; elsewhere every user of the machine gets in. Ctrl-C ends it.

    \b
    Example:
      pusher serve
      docker push localhost:5055/registry.example.com/team/app:1.2
      pusher serve --local ~/registry
      docker push localhost:5055/app:1.2
    """
    from pusher.config.values import parse_path
    from pusher.serve.server import Address

    if local is not None and (to is not None or acknowledge != "pushed"):
        option = "--to" if to is not None else "--acknowledge"
        raise InvalidOption(f"--local forwards nothing, and {option} says how", hint="give one of the two")
    unused_for = _age(delete_unused, local)
    address = Address.parse(listen)
    certificate = _certificate(tls_cert, tls_key)
    safe = bool(certificate) or plain_http
    access = _access(address, username, htpasswd, password_stdin=password_stdin, safe=safe)
    front = _Front(address, certificate, access)
    if local is None:
        return _forward(front, to, progress, waits=acknowledge == "pushed")
    return _keep(front, parse_path(str(local), "--local").absolute(), unused_for)


def _age(delete_unused: str | None, local: Path | None) -> float | None:
    """Return the seconds of --delete-unused. Raises InvalidOption."""
    from pusher.config import parse_age
    from pusher.serve.garbage import LEAST

    if delete_unused is None:
        return None
    if local is None:
        raise InvalidOption("--delete-unused is for a registry in a folder", hint="add --local DIR")
    age = parse_age(delete_unused, "--delete-unused")
    if age < LEAST:
        raise InvalidOption(
            f"--delete-unused {delete_unused} would delete layers of images that are being pushed",
            hint="give at least 1h",
        )
    return age


@dataclass(frozen=True)
class _Front:
    """The address that clients connect to, and their login."""

    address: Address
    certificate: Certificate | None
    access: Access

    def open(self, stack: ExitStack) -> list[socket.socket]:
        """Listen until the stack is closed; no request is answered yet."""
        from pusher.serve.server import open_sockets

        sockets = open_sockets(self.address)
        for listener in sockets:
            stack.callback(listener.close)
        return sockets

    def announce(self, what: str, port: int, name: str) -> None:
        """Print the address, and how to push to it."""
        scheme = "https" if self.certificate else "http"
        print_notice(f"Listening on {scheme}://{self.address.at(port)}; press Ctrl-C to stop. {what}")
        print_notice(f"The page: {scheme}://{self.address.at(port)}/")
        if self.access.is_local:
            print_notice(f"Push to it with: docker push localhost:{port}/{name}")


def _keep(front: _Front, folder: Path, unused_for: float | None) -> int:
    from pusher.serve.api import Api
    from pusher.serve.app import make_app
    from pusher.serve.garbage import collecting
    from pusher.serve.local import LocalRegistry
    from pusher.serve.metrics import Metrics
    from pusher.serve.page.site import RegistrySite
    from pusher.serve.server import run_server

    warn_of_unknown_variables()
    with closing(LocalRegistry(folder)) as registry, ExitStack() as stack:
        sockets = front.open(stack)
        front.announce(f"Images are kept in {folder}.", sockets[0].getsockname()[1], "NAME:TAG")
        if unused_for is not None:
            stack.enter_context(collecting(registry, unused_for, print_notice))

        def note_full_disk(message: str) -> None:
            print_notice(
                f"{message}: pushes to {folder} are refused with 507. "
                "Free some space, or serve a folder on a larger disk."
            )

        site = RegistrySite(registry.catalog)
        app = make_app(Api(registry), front.access, Metrics(), site=site, note_full_disk=note_full_disk)
        number = run_server(app, sockets, note=print_notice, certificate=front.certificate)
    return 128 + number if number else ExitCode.DONE


def _forward(front: _Front, to: str | None, progress: str, *, waits: bool) -> int:
    from pusher.reference import RegistryPath
    from pusher.serve.app import make_app
    from pusher.serve.forward.service import forwarding
    from pusher.serve.metrics import MeteredProgress, Metrics
    from pusher.serve.page.site import JobSite
    from pusher.serve.server import server_in_background
    from pusher.worker.preload import load_worker

    load_worker()
    settings = read_settings()
    place = None if to is None else RegistryPath.parse(to)
    with open_store(settings, forever=True) as store, ExitStack() as stack:
        settings = with_password(
            settings, {place.registry} if place else set(), password_stdin=False, more_to_come=place is None
        )
        sockets = front.open(stack)
        port = sockets[0].getsockname()[1]
        api = stack.enter_context(
            forwarding(store, settings, to=place, port=port, waits=waits, note=print_notice)
        )
        metrics = Metrics()
        metrics.watch_queue(store)

        def note_full_disk(message: str) -> None:
            print_notice(
                f"{message}: pushes are refused with 507. Free some space, for example with: pusher prune"
            )

        name = "app:1.2" if place else "registry.example.com/team/app:1.2"
        site = JobSite(store, settings, f"docker push localhost:{port}/{name}")
        app = make_app(api, front.access, metrics, site=site, note_full_disk=note_full_disk)
        with server_in_background(app, sockets, front.certificate):
            front.announce(
                f"Pushes are forwarded to {place or 'the registry that their name begins with'}.",
                port,
                "NAME:TAG" if place else "registry.example.com/team/app:1.2",
            )

            def watch(progress: Progress) -> Progress:
                return MeteredProgress(site.follow(progress), metrics, store)

            result = work(store, settings, progress, forever=True, watch=watch)
            api.end()
    return report_result(result, progress, single=False)


def _certificate(certificate: Path | None, key: Path | None) -> Certificate | None:
    from pusher.serve.server import Certificate

    if certificate is None and key is None:
        return None
    if certificate is None or key is None:
        raise InvalidOption(
            "--tls-cert and --tls-key must be used together",
            hint="give both: the certificate and its key, as PEM files",
        )
    return Certificate(certificate, key)


def _access(
    address: Address, username: str | None, htpasswd: Path | None, *, password_stdin: bool, safe: bool
) -> Access:
    """Raise InvalidOption if others could push without a login, or read the login."""
    from pusher.serve.access import Access, Login

    if htpasswd is not None and (username is not None or password_stdin):
        given = "--username" if username is not None else "--password-stdin"
        raise InvalidOption(f"--htpasswd has the logins, and {given} is another", hint="give one of the two")
    if not address.is_local and username is None and htpasswd is None:
        raise InvalidOption(
            f"everybody who can reach {address} could push and pull",
            hint="require a login with --username USER --password-stdin or --htpasswd FILE, and add "
            "--tls-cert and --tls-key; or listen on 127.0.0.1:5055, for yourself",
        )
    if not address.is_local and not safe:
        raise InvalidOption(
            f"the password would be sent to {address} unencrypted",
            hint="add --tls-cert and --tls-key, or --plain-http if you trust the network",
        )
    if htpasswd is not None:
        from pusher.serve.password_file import PasswordFile

        return Access(address.is_local, PasswordFile(htpasswd))
    if username is None:
        if password_stdin:
            raise InvalidOption("--password-stdin needs a user name", hint="add --username USER")
        return Access(address.is_local)
    if ":" in username:
        raise InvalidOption(f"the user name {username!r} contains a colon", hint="use another name")
    password = read_password(username, password_stdin=password_stdin)
    note_secret(password, username=username)
    return Access(address.is_local, Login(username, password))
