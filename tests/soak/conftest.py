"""The real registry."""

from tests.support.real import make_docker_registry

__all__ = ["make_docker_registry"]
