"""Fixtures that every layer's tests share."""

import os
from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def golden() -> Path:
    """Folder of numbers recorded from the published implementation."""
    folder = Path(os.environ.get("POSEDANCE_GOLDEN", SHARED / "golden"))
    if not folder.is_dir():
        pytest.skip(f"no golden data at {folder}: set POSEDANCE_GOLDEN to a folder that holds it")
    return folder


@pytest.fixture(scope="session")
def samples() -> Path:
    """Folder of real driving videos and reference pictures."""
    folder = SHARED / "samples"
    if not folder.is_dir():
        pytest.skip(f"no sample videos at {folder}")
    return folder
