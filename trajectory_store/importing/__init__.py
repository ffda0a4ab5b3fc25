"""Files of others, made into runs: safetensors, HDF5, npz and npy."""

from .importer import Imported, import_file, import_hdf5, import_numpy, import_safetensors

__all__ = ["Imported", "import_file", "import_hdf5", "import_numpy", "import_safetensors"]
