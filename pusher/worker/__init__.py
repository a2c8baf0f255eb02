"""Claim, plan, push, retry, limits, signals: the only layer that joins the others."""
