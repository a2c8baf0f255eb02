"""Layers read straight from an engine's disk: nothing is exported, no daemon writes a copy first."""
