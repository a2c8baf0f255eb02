"""Every test here that asks for a store runs on SQLite and on PostgreSQL."""

from tests.support.databases import clock, empty_url, kind, postgres, store, url

__all__ = ["clock", "empty_url", "kind", "postgres", "store", "url"]
