"""Everything at once for a while: see soak.py."""
