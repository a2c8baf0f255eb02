"""Serve the page in a browser: the jobs of the queue, or what a local registry holds."""
