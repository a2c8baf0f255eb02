"""The job store: jobs, their blobs and uploads, and what is known of registries, in SQLite or PostgreSQL."""
