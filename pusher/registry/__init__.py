"""Implement the distribution API: transport, authentication, client, chunked upload, profiles."""
