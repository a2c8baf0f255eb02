"""Images in registries: ``docker://REFERENCE``."""
