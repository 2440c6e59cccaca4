"""Samples and labels: data sets (`sets`), recordings of events (`events`), and how either enters a network (`encode`).
"""

from .sets import DATASETS, IDX_PREFIX, SPLITS, Dataset, described, find, load, read_idx, samples

__all__ = ["DATASETS", "IDX_PREFIX", "SPLITS", "Dataset", "described", "find", "load", "read_idx", "samples"]
