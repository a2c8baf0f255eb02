"""Counters and events of a run, and their display: live terminal, plain lines, JSON lines."""
