"""Rows written in place into a safetensors file."""
