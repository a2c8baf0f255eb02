"""Log in to registries: credentials, challenges, tokens."""
