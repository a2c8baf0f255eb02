"""Read image archives: docker-archive files of all tools, and archives from pipes."""
