"""Logging in: credentials, challenges, tokens."""
