"""Sealed frames: how rows lie in blocks and tiles, and the files of them."""
