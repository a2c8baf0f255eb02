"""The distribution API: transport, authentication, client, chunked upload, profiles."""
