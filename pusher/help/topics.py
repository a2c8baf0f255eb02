"""List and read the topics by name, in the order in which ``pusher help`` lists them."""

from __future__ import annotations

from functools import cached_property
from importlib.resources import files
from typing import Final

from pusher.dataclass import dataclass
from pusher.help.markdown import Block, Code, Heading, parse

NAMES: Final = (
    *("queue", "sources", "images", "destinations", "credentials"),
    *("registries", "links", "tls", "settings", "environment"),
    *("errors", "scripting", "hooks", "troubleshooting", "serving", "services", "nightly"),
    *("performance", "architecture"),
)

SYNONYMS: Final = {
    **dict.fromkeys(("jobs", "workers", "tags", "postgresql", "database", "pause", "priority"), "queue"),
    **dict.fromkeys(("fleet", "hosts", "machines", "postgres"), "queue"),
    **dict.fromkeys(("docker", "podman", "archives", "containerd", "nerdctl", "oci"), "sources"),
    **dict.fromkeys(("platforms", "compression", "attestations", "split", "layers", "index"), "images"),
    **dict.fromkeys(("to", "references", "names"), "destinations"),
    **dict.fromkeys(("auth", "authentication", "logins", "passwords", "tokens"), "credentials"),
    **dict.fromkeys(("profiles", "ecr", "ghcr", "harbor", "serverless-registry"), "registries"),
    **dict.fromkeys(("chunks", "bandwidth", "rate", "limits", "slow", "network"), "links"),
    **dict.fromkeys(("certificates", "proxy", "proxies", "vpn", "http", "ca"), "tls"),
    **dict.fromkeys(("configuration", "options", "pusher.toml"), "settings"),
    **dict.fromkeys(("variables", "env"), "environment"),
    **dict.fromkeys(("exit-codes", "json", "automation", "output"), "scripting"),
    **dict.fromkeys(("notifications", "webhooks", "mail", "alerts"), "hooks"),
    **dict.fromkeys(("problems", "debugging", "faq", "retries"), "troubleshooting"),
    **dict.fromkeys(("server", "local", "mirror"), "serving"),
    **dict.fromkeys(("ci", "github", "gitlab", "cron", "timer", "timers", "schedule", "recipes"), "nightly"),
    **dict.fromkeys(("systemd", "service", "container", "compose", "containerfile", "desktop"), "services"),
    **dict.fromkeys(("benchmarks", "speed", "figures", "comparison"), "performance"),
    **dict.fromkeys(("design", "internals", "glossary", "blobs"), "architecture"),
}
"""Other words for a topic, for a reader who guesses: ``pusher help WORD`` shows the topic, unless WORD is a
command."""


@dataclass(frozen=True)
class Topic:
    """One topic: ``text`` is its Markdown."""

    name: str
    text: str

    @cached_property
    def blocks(self) -> list[Block]:
        return parse(self.text)

    @property
    def title(self) -> str:
        """Return the topic's heading."""
        return next(block.text for block in self.blocks if isinstance(block, Heading))

    @property
    def files(self) -> dict[str, str]:
        """Return the files in the topic, by their names."""
        code = (block for block in self.blocks if isinstance(block, Code) and block.file)
        return {block.file: "".join(f"{line}\n" for line in block.lines) for block in code}


def read_topic(name: str) -> Topic:
    """Return the topic ``name``, one of NAMES."""
    return Topic(name, files("pusher.help").joinpath(f"{name}.md").read_text(encoding="utf-8"))


def read_schema() -> str:
    """Return the JSON Schema of what commands print as JSON."""
    return files("pusher.help").joinpath("output.schema.json").read_text(encoding="utf-8")
