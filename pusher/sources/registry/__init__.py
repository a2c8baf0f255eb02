"""Images that lie in registries: ``docker://REFERENCE``."""
