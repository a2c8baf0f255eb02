"""A registry that keeps nothing: what is pushed to it goes on to other registries as jobs of the queue."""
