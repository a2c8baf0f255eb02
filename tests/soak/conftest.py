"""The real registry, and a PostgreSQL server."""

from tests.support.databases import postgres
from tests.support.real import make_docker_registry

__all__ = ["make_docker_registry", "postgres"]
