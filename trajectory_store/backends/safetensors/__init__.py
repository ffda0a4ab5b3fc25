"""A safetensors file, read as if it were a run."""
