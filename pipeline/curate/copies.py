"""Near-duplicates of the clips that pass, by the fingerprints that were stored when they were measured."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from ...datasets.curation.duplicates import COMPARISON, guesses, is_copy, kept_of_each
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


def find_copies(folders: Sequence[Path], fine: Sequence[bool], known: Path) -> Mapping[int, int]:
    """Which of the clips in these job folders are copies, and of which: places in `folders`.

    `fine` tells of which clips there may be copies: those that pass all filters. Whether two clips show the
    same hangs on no bound: it is kept in the file `known`, and no pair is compared twice.
    """
    prints, digests = [], []
    with stage("copies", len(folders), "clip") as advance:
        for folder in folders:
            path = folder / FINGERPRINT
            digests.append(hashlib.sha256(path.read_bytes()).digest())
            prints.append(load_fingerprint(path))
            advance(1)
    before = load_compared(known)
    compared = dict(before)
    pairs = sorted(guesses(prints))
    with stage("compared", len(pairs), "pair") as advance:
        waiting = len(pairs)

        def is_same(one: int, other: int, mirror: bool) -> bool:
            nonlocal waiting
            name = name_of_pair(digests[one], digests[other], mirror)
            if name not in compared:
                compared[name] = is_copy(prints[one], prints[other], mirror)
            waiting -= 1
            advance(1)
            return compared[name]

        found = kept_of_each(prints, fine, pairs, is_same)
        advance(waiting)
    if len(compared) > len(before):
        save_compared(known, compared)
    return {pair.copy: pair.original for pair in found}


def name_of_pair(one: bytes, other: bytes, mirror: bool) -> int:
    """The number, of 64 bits, by which two clips that were compared are known: of their files' SHA-256."""
    text = f"{COMPARISON} {one.hex()} {other.hex()} {mirror}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


def save_compared(path: Path, compared: Mapping[int, bool]) -> None:
    """Write which pairs show the same, whole or not at all."""
    names, same = np.array(list(compared), np.uint64), np.array(list(compared.values()), bool)
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.savez(file, names=names, same=same)


def load_compared(path: Path) -> dict[int, bool]:
    """What `save_compared` wrote; nothing where it never did."""
    if not path.is_file():
        return {}
    with np.load(path, allow_pickle=False) as arrays:
        return dict(zip(arrays["names"].tolist(), arrays["same"].tolist(), strict=True))
