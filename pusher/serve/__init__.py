"""Run a registry on this machine: the OCI distribution API, a server and storage on disk."""
