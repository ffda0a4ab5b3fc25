"""Frames that are not sealed yet."""
