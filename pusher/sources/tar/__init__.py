"""Read tar files by their headers, without extracting them."""
