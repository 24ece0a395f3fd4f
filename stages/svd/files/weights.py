"""Weight files: read without running any code, loaded strictly, every key accounted for."""

import errno
import json
import pickle
import re
import zipfile
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ...atomic import atomic_path
from ...errors import WeightsError

NAMES = ("diffusion_pytorch_model", "model")
"""Of weight files in diffusers' and transformers' folders."""
FORGOTTEN = ("vision_model.embeddings.position_ids",)
"""Keys of older files that are no weights and that today's classes do not have."""
LISTED = 8
"""How many keys of one kind an error message shows by name; the others are counted by their first part."""


def find_weights(folder: Path) -> Path:
    """The weight file of a network's folder: full precision before fp16, or the index of several files."""
    for name in NAMES:
        for variant in ("", ".fp16"):
            for pattern in (f"{name}{variant}.safetensors", f"{name}.safetensors.index{variant}.json"):
                if (folder / pattern).is_file():
                    return folder / pattern
    raise WeightsError(f"no safetensors weights in {folder}: is the download complete?")


def shards_of(index: Path) -> list[Path]:
    """The files that an index (*.index.json) names."""
    names = json.loads(index.read_text())["weight_map"].values()
    return [index.parent / name for name in sorted(set(names))]


def read_weights(path: Path) -> dict[str, Tensor]:
    """Tensors by key of a .safetensors file, an index of several, or a .bin/.pt/.pth state dict.

    The state dict may lie under the key `state_dict`, as training scripts save it beside other numbers. A
    pickle that holds anything but plain data is refused.
    """
    if not path.is_file():
        raise WeightsError(f"weights {path} do not exist: check the path")
    try:
        if path.suffix == ".json":
            return {key: value for shard in shards_of(path) for key, value in read_weights(shard).items()}
        if path.suffix == ".safetensors":
            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except pickle.UnpicklingError as error:
        with path.open("rb") as file:
            pickled = zipfile.is_zipfile(path) or file.read(1) == pickle.PROTO
        if not pickled:
            raise WeightsError(f"{path} is no readable weight file: it is of another kind") from error
        raise WeightsError(
            f"{path} holds more than tensors and is not loaded: convert it to safetensors"
        ) from error
    except (OSError, SafetensorError, RuntimeError, ValueError, KeyError, EOFError) as error:
        reason = str(error).strip().splitlines()
        raise WeightsError(
            f"{path} is no readable weight file: {reason[0] if reason else error!r}"
        ) from error
    if isinstance(state, dict) and isinstance(state.get("state_dict"), dict):
        state = state["state_dict"]
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise WeightsError(f"{path} is not a plain state dict of tensors: convert it to safetensors")
    return state


def save_tensors(path: Path, tensors: dict[str, Tensor], facts: dict[str, str] | None = None) -> None:
    """Write a safetensors file, with `facts` as its metadata, whole or not at all.

    Raises OutputError where it cannot, from an OSError, so that a full disk is known as one.
    """
    with atomic_path(path) as temporary:
        try:
            save_file(tensors, temporary, facts)
        except SafetensorError as error:
            number = re.search(r"os error (\d+)", str(error))
            raise OSError(int(number[1]) if number else errno.EIO, str(error)) from error


def listed(keys: Sequence[str]) -> str:
    """Every key accounted for in one line: the first ones by name, the others counted by their first part."""
    others = Counter(key.split(".")[0] for key in keys[LISTED:])
    named = ", ".join(keys[:LISTED])
    return f"{named}, and {', '.join(f'{n} of {part}' for part, n in others.items())}" if others else named


def check_fit(module: nn.Module, given: Mapping[str, Tensor], source: str, subset: bool = False) -> None:
    """WeightsError that lists every kind of disagreement: missing, unexpected and misshaped keys.

    Of a `subset`, keys may be missing.
    """
    expected = {key: tuple(value.shape) for key, value in module.state_dict().items()}
    problems = {
        "missing": [] if subset else sorted(expected.keys() - given.keys()),
        "unexpected": sorted(given.keys() - expected.keys()),
        "of another shape": sorted(
            f"{key} {list(given[key].shape)} instead of {list(shape)}"
            for key, shape in expected.items()
            if key in given and tuple(given[key].shape) != shape
        ),
    }
    found = [f"{len(keys)} {kind}: {listed(keys)}" for kind, keys in problems.items() if keys]
    if found:
        raise WeightsError(f"{source} does not fit {type(module).__name__}: {'; '.join(found)}")


def load_strict(module: nn.Module, state: Mapping[str, Tensor], source: str) -> None:
    """Make the tensors of `state` those of `module` (which may be empty, on the meta device).

    WeightsError lists every kind of disagreement: see `check_fit`.
    """
    known = module.state_dict()
    given = {key: value for key, value in state.items() if key in known or key not in FORGOTTEN}
    check_fit(module, given, source)
    # copies: a mapped file may change under us, and its alignment changes the last bits of products
    module.load_state_dict({key: value.clone() for key, value in given.items()}, strict=True, assign=True)
