"""The job store: jobs, layers, uploads, memos, registry facts and events in SQLite or PostgreSQL."""
