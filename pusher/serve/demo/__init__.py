"""Implement ``pusher demo``: a push over a bad link, all on this machine."""
