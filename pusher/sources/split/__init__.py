"""Layers that are too large for a registry, cut at file borders into several (``--split-layers``)."""
