"""Blobs on disk: compressed layers by digest, and slices of files that hold them already."""
