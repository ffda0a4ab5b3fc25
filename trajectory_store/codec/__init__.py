"""One tile to bytes and back."""
