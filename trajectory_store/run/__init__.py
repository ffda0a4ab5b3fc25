"""A run as its readers see it, and the forms it takes: arrays, tensors, datasets, pictures in a notebook."""

from . import pickling as pickling
from .run import Run, open_run, opened
from .series import LazySeries

__all__ = ["LazySeries", "Run", "open_run", "opened"]
