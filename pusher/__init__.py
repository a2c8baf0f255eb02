"""A queue of container-image pushes with resumable state."""

__version__ = "0.1.0"
