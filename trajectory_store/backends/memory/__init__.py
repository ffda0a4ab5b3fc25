"""Frames and arrays in RAM."""
