"""Read image archives: docker-archive files in every shape, and archives from pipes."""
