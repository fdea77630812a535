"""The readers of public data sets by name."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from faceum.data.pairs import PairSet
from faceum.data.parquet import read_packed
from faceum.data.sample import Sample
from faceum.data.synthetic import read_generated
from faceum.datasets.affectnet import read_affectnet
from faceum.datasets.celeba import read_celeba
from faceum.datasets.celebamask import read_celebamask
from faceum.datasets.fer import read_fer2013, read_ferplus
from faceum.datasets.folders import read_folders
from faceum.datasets.insightface_bin import read_bin
from faceum.datasets.lapa import read_lapa
from faceum.datasets.lfw import read_lfw
from faceum.datasets.morph import read_morph
from faceum.datasets.pts import read_300w, read_helen
from faceum.datasets.rafdb import read_rafdb
from faceum.datasets.recordio import read_recordio
from faceum.datasets.rmfd import read_rmfd, read_rmfd_pairs
from faceum.datasets.tar_shards import read_tar_shards
from faceum.datasets.utkface import read_utkface
from faceum.datasets.wflw import read_wflw
from faceum.errors import DataError, unknown_name

DATASETS: dict[str, Callable[[str | Path, str], Iterator[Sample]]] = {
    "300w": read_300w,
    "affectnet": read_affectnet,
    "celeba": read_celeba,
    "celebamask": read_celebamask,
    "fer2013": read_fer2013,
    "ferplus": read_ferplus,
    "folders": read_folders,
    "generated": read_generated,
    "helen": read_helen,
    "lapa": read_lapa,
    "morph": read_morph,
    "packed": read_packed,
    "rafdb": read_rafdb,
    "recordio": read_recordio,
    "rmfd": read_rmfd,
    "tar": read_tar_shards,
    "utkface": read_utkface,
    "wflw": read_wflw,
}
"""Data set -> its reader: (root, split) -> samples."""

PAIR_SETS: dict[str, Callable[[str | Path, str], PairSet]] = {
    "bin": read_bin,
    "lfw": read_lfw,
    "rmfd-pairs": read_rmfd_pairs,
}
"""Verification set -> its reader: (root or file, split) -> faces and pairs."""


def read_dataset(name: str, root: str | Path, split: str) -> Iterator[Sample]:
    """Yield the samples of a data set; raises DataError for an unknown name, listing the known ones.

    A missing file is reported when the first sample is read.
    """
    if name in DATASETS:
        return DATASETS[name](root, split)
    if name in PAIR_SETS:
        return iter(PAIR_SETS[name](root, split).samples)
    raise DataError(unknown_name(name, "data set", [*DATASETS, *PAIR_SETS]))
