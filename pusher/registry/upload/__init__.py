"""The chunked, resumable upload of one blob."""
