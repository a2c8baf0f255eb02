"""Render the topics of ``pusher help``: Markdown, for terminals and ``man``."""
