"""Build errors for invalid command lines, with suggestions."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Final

import click

from pusher.cli.groups import commands_of
from pusher.errors import CommandLineInvalid
from pusher.text import quoted, suggest

_COMMANDS: Final = {
    **dict.fromkeys(("list", "ps", "jobs", "queue", "show", "inspect", "info", "progress"), "status"),
    **dict.fromkeys(("logs", "events", "history"), "log"),
    **dict.fromkeys(("remove", "delete", "del", "kill", "abort"), "cancel"),
    **dict.fromkeys(("add", "submit", "enque"), "enqueue"),
    **dict.fromkeys(("copy", "cp", "upload", "send", "sync", "put", "mirror"), "push"),
    **dict.fromkeys(("start", "work", "worker", "daemon", "go"), "run"),
    **dict.fromkeys(("stop", "hold", "suspend"), "pause"),
    **dict.fromkeys(("continue", "unpause"), "resume"),
    **dict.fromkeys(("again", "redo", "restart"), "retry"),
    **dict.fromkeys(("clean", "cleanup", "gc", "purge", "clear"), "prune"),
    **dict.fromkeys(("check", "diagnose", "test", "ping"), "doctor"),
    **dict.fromkeys(("settings", "env"), "config"),
    **dict.fromkeys(("migrate", "upgrade", "init"), "db upgrade"),
    **dict.fromkeys(("auth", "signin"), "login"),
    "signout": "logout",
}
_LOGIN: Final = ("--username USER --password-stdin",)
_SOURCE_LOGIN: Final = ("--src-authfile FILE", "pusher login REGISTRY")
_TLS: Final = ("--dest-tls-verify=false", "--insecure REGISTRY or --plain-http")
_CA: Final = ("--ca-cert FILE",)
_PLATFORM: Final = ("--platform OS/ARCH",)
_COMPRESSION: Final = ("--compression KIND",)
_QUIET: Final = ("--progress none",)
_TO: Final = ("--to WHERE",)
_OPTIONS: Final[dict[str, Sequence[str]]] = {
    **dict.fromkeys(("--creds", "--dest-creds", "--password", "-p", "-P", "--pass"), _LOGIN),
    **dict.fromkeys(("--src-creds", "--src-username", "--src-password"), _SOURCE_LOGIN),
    **dict.fromkeys(("--user", "--dest-username"), ("--username USER",)),
    **dict.fromkeys(("--tls-verify", "--dest-tls-verify", "--src-tls-verify", "--verify-tls", "-k"), _TLS),
    **dict.fromkeys(("--skip-tls-verify", "--insecure-skip-tls-verify", "--no-verify", "--no-check"), _TLS),
    **dict.fromkeys(("--http", "--insecure-http", "--plain"), ("--plain-http",)),
    **dict.fromkeys(
        ("--ca", "--cacert", "--ca-file", "--cafile", "--cert", "--cert-dir"), ("--ca-cert FILE",)
    ),
    **dict.fromkeys(("--json", "-o", "--output", "--format"), ("--json", "--progress json")),
    **dict.fromkeys(("-q", "--quiet", "-s", "--silent", "--no-progress"), _QUIET),
    **dict.fromkeys(("--dest", "--destination", "-d", "--target", "--registry"), _TO),
    "-t": ("--tag TAG",),
    **dict.fromkeys(("--jobs", "--concurrency", "--workers", "--threads"), ("--parallel N",)),
    **dict.fromkeys(("--bwlimit", "--rate", "--limit", "--max-rate", "--bandwidth"), ("--limit-rate RATE",)),
    **dict.fromkeys(("--timeout", "--max-time"), ("--give-up-after TIME", "--answer-timeout TIME")),
    **dict.fromkeys(
        ("--arch", "--os", "--variant", "--override-arch", "--override-os"), ("--platform OS/ARCH",)
    ),
    **dict.fromkeys(("-a", "--all-platforms", "--multi-arch", "--everything"), ("--all",)),
    **dict.fromkeys(("-f", "-w", "--follow"), ("--watch",)),
    **dict.fromkeys(("--daemon", "--keep-running", "--wait"), ("--forever",)),
    **dict.fromkeys(
        ("--compress", "--dest-compress-format", "--compression-format"), ("--compression KIND",)
    ),
    **dict.fromkeys(("--log-level", "--trace", "--loglevel"), ("-v",)),
    "--additional-tag": ("--tag TAG",),
    "--digestfile": ("--digest-file FILE",),
    "--dest-compress-level": ("--compression-level N",),
}
"""What other tools call an option; of several the first that the command has. What is typed after it is never
repeated, as it may be a password."""
_RETRIES: Final = (
    "leave it out: pusher retries by itself; push and run end after --give-up-after TIME without progress"
)
_SIGNS: Final = (
    "pusher does not sign; sign what was pushed by its digest, for example: cosign sign REPOSITORY@DIGEST"
)
_FORMAT: Final = (
    "leave it out: a manifest keeps its format, and a new one is Docker's, or OCI if a layer is not gzip; "
    "for output as JSON: --json"
)
_EXPLAINED: Final = {
    **dict.fromkeys(("--retry", "--retry-times", "--retries", "--max-retries", "--retry-delay"), _RETRIES),
    **dict.fromkeys(("--push-retry", "--retry-count", "--retry-limit"), _RETRIES),
    **dict.fromkeys(("--sign-by", "--sign-by-sigstore", "--sign-by-sigstore-private-key", "--sign"), _SIGNS),
    "--preserve-digests": "leave it out: an image that has a manifest keeps its digest, unless its layers "
    "are uncompressed or an option such as --drop-attestations changes it",
    "--remove-signatures": "leave it out: signatures that lie beside an image are not pushed with it",
    "--disable-content-trust": "leave it out: pusher does not use Docker Content Trust",
}
"""Options of other tools that have no counterpart here, and what pusher does about the matter."""
_NOTIFY: Final = ("--notify", "--on-success", "--on-failure", "--hook", "--webhook", "--mail")
_VARIABLES: Final = {
    "--config": "PUSHER_CONFIG",
    "--home": "PUSHER_HOME",
    "--root": "PUSHER_HOME",
    "--database-url": "PUSHER_DATABASE_URL",
    "--db": "PUSHER_DATABASE_URL",
}
"""Options of other tools that are environment variables here, as they concern every command."""


def unknown_command_error(
    name: str, path: str, known: Iterable[str], rest: Sequence[str]
) -> CommandLineInvalid:
    """Return the error for an unknown command ``name``, between ``path`` and ``rest``."""
    known = list(known)
    import difflib

    near = difflib.get_close_matches(name, known, n=3)
    guess = ""
    if name == "help":
        guess = f"{path} {rest[0]} --help" if rest and rest[0] in known else ""
    elif name in _COMMANDS and _COMMANDS[name].split()[0] in (*known, "--version"):
        guess = f"{path} {_COMMANDS[name]}"
    elif near:
        return _unknown_error("command", name, " or ".join(map(repr, near)), f"{path} --help")
    elif "push" in known and any(mark in name for mark in ":/."):
        guess = suggest("pusher push {}", name)
    return _unknown_error("command", name, guess, f"{path} --help")


def explain_click_error(error: click.ClickException) -> CommandLineInvalid:
    """Return what click reports about the command line, as an error with advice."""
    context = error.ctx if isinstance(error, click.UsageError) else None
    path = context.command_path if context else "pusher"
    help_of = f"{path} --help"
    if isinstance(error, click.NoSuchOption) and re.fullmatch(r"-[0-9]", error.option_name):
        return CommandLineInvalid(
            f"a number cannot be negative here: {quoted(error.option_name)}", hint=help_of
        )
    if isinstance(error, click.NoSuchOption):
        if explained := _explain_option(error):
            message = f"no such option {quoted(error.option_name)}"
            return CommandLineInvalid(message, hint=f"{explained}; see also: {help_of}")
        unknown = _unknown_error("option", error.option_name, _option_meant(error), help_of)
        if _OPTIONS.get(error.option_name) in (_LOGIN, _SOURCE_LOGIN):
            unknown.hint += " (others can read a password on the command line)"
        return unknown
    message = error.format_message().rstrip(" (.")
    hint = help_of
    if isinstance(error, click.MissingParameter) and context:
        message = message.partition(". Choose from:")[0]  # a list of several lines, which the usage has, too
        usage = " ".join(context.command.collect_usage_pieces(context))
        hint = f"usage: {path} {usage}; see also: {hint}"
    return CommandLineInvalid(message[:1].lower() + message[1:], hint=hint)


def extra_arguments_error(context: click.Context, extra: Sequence[str]) -> CommandLineInvalid:
    """Return the error for extra arguments: after an image, one is probably its destination."""
    path, params = context.command_path, context.params
    message = f"{quoted(extra[0])} is one argument too many"
    image = params.get("target")
    if image and len(extra) == 1 and not params["to"]:
        where = extra[0].removeprefix("docker://")
        hint = suggest(f"give the destination with --to: {path} {{}} --to {{}}", image, where)
        return CommandLineInvalid(message, hint=hint or f"{path} --help")
    return CommandLineInvalid(message, hint=f"{path} --help")


def _explain_option(error: click.NoSuchOption) -> str:
    """Return what pusher does about the matter of another tool's option, if that has no counterpart here."""
    if error.option_name == "--format" and error.ctx and error.ctx.command.name in ("push", "enqueue"):
        return _FORMAT
    return _EXPLAINED.get(error.option_name, "")


def _option_meant(error: click.NoSuchOption) -> str:
    if error.ctx is None:
        return ""
    name = error.option_name
    if name in _NOTIFY:
        return "[hooks] in pusher.toml, commands that are run when a job ends: pusher help hooks"
    if name in _VARIABLES:
        return f"the environment variable {_VARIABLES[name]}"
    has = {flag for parameter in error.ctx.command.get_params(error.ctx) for flag in parameter.opts}
    if meant := next((words for words in _OPTIONS.get(name, ()) if words.split()[0] in has), ""):
        return meant
    if isinstance(error.ctx.command, click.Group) and name in ("--to", "--platform", "--username"):
        return f"{error.ctx.command_path} push IMAGE {name} ..."
    if isinstance(error.ctx.command, click.Group) and _is_option_of_a_command(error.ctx, name):
        return f"{error.ctx.command_path} COMMAND {name}"
    return " or ".join(map(repr, error.possibilities or ()))


def _is_option_of_a_command(context: click.Context, flag: str) -> bool:
    group = context.command
    commands = commands_of(group, context).values() if isinstance(group, click.Group) else ()
    return any(flag in parameter.opts for command in commands for parameter in command.params)


def _unknown_error(what: str, name: str, guess: str, help_of: str) -> CommandLineInvalid:
    hint = f"did you mean {guess}? See also: {help_of}" if guess else help_of
    return CommandLineInvalid(f"no such {what} {quoted(name)}", hint=hint)
