"""Parse and build digests, descriptors, manifests and media types, without input or output."""
