"""Digests, descriptors, manifests and media types: pure data, no input or output."""
