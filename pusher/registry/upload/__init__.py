"""Upload one blob in chunks that can be resumed."""
