"""Implement ``pusher demo``: a push over a bad link, entirely on this machine."""
