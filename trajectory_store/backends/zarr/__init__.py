"""The default backend: a journal that is sealed into a Zarr store."""
