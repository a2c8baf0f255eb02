"""A registry on this machine: the OCI distribution API, on disk and behind a socket."""
