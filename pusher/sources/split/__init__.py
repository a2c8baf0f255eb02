"""Split layers that are too large for a registry at file boundaries (``--split-layers``)."""
