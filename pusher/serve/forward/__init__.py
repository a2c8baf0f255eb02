"""Serve a registry that stores nothing: pushes are forwarded to other registries as jobs of the queue."""
