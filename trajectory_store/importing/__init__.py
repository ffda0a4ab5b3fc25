"""Files of others, made into runs: safetensors, HDF5, npz, npy and those of torch.save."""

from .importer import Imported, import_file, import_hdf5, import_numpy, import_safetensors, import_torch

__all__ = ["Imported", "import_file", "import_hdf5", "import_numpy", "import_safetensors", "import_torch"]
