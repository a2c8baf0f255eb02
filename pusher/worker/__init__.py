"""Claim jobs and push them, with retries, limits and signals; the only layer that joins the others."""
