"""Read layers directly from an engine's disk, without an export or a copy by the daemon."""
