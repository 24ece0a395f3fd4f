"""Near-duplicates of the clips that pass, by the fingerprints that were stored when they were measured."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from ...datasets.curation.duplicates import duplicates
from ...datasets.curation.fingerprint import Fingerprint
from ...stages.atomic import atomic_path
from ..progress import stage

FINGERPRINT = "fingerprint.npz"


def save_fingerprint(path: Path, found: Fingerprint) -> None:
    """Write a fingerprint, whole or not at all."""
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.savez(
            file, hashes=found.hashes, poses=found.poses, looks=found.looks, pixels=np.int64(found.pixels)
        )


def load_fingerprint(path: Path) -> Fingerprint:
    """What `save_fingerprint` wrote."""
    with np.load(path, allow_pickle=False) as arrays:
        return Fingerprint(arrays["hashes"], arrays["poses"], arrays["looks"], int(arrays["pixels"]))


def find_copies(folders: Sequence[Path], fine: Sequence[bool]) -> Mapping[int, int]:
    """Which of the clips in these job folders are copies, and of which: places in `folders`.

    `fine` tells of which clips there may be copies: those that pass all filters.
    """
    with stage("copies", len(folders), "clip") as advance:
        prints = []
        for folder in folders:
            prints.append(load_fingerprint(folder / FINGERPRINT))
            advance(1)
    return {pair.copy: pair.original for pair in duplicates(prints, fine)}
