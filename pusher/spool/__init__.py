"""Blobs on disk: compressed layers under their digests, shared by every worker of one PUSHER_HOME."""

from pusher.spool.spool import Spool

__all__ = ["Spool"]
