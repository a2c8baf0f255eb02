"""Read images in registries: ``docker://REFERENCE``."""
