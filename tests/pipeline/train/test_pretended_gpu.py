"""A training step on a GPU that is not there: devices, dtypes, and what lives on it against the plan."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from pretended_gpu import GUARD, HOOKS, NoDeviceError, compile_device

SCRIPT = Path(__file__).resolve().parents[2] / "pretended_training.py"
SAVING = {"lora_rank": 4, "gradient_checkpointing": True, "loop": {"precision": "fp16"}}
WAYS = {"plain": {}, "LoRA weights with checkpointing in 16 bits": SAVING}


@pytest.mark.slow
def test_what_lives_on_the_device_is_what_was_planned(base, config, tmp_path):
    """Of a small UNet whose clips are so large that they take more than its weights."""
    try:
        device = compile_device(tmp_path, GUARD + HOOKS)
    except NoDeviceError as error:
        pytest.skip(str(error))
    unet = {"widths": [64], "attention": [True], "head": 64, "norm_groups": 32}
    data = {"width": 256, "height": 256, "frames": 3}
    command = [sys.executable, SCRIPT, device]
    for changes in WAYS.values():
        settings = config(base, tmp_path, batch=1, data=data, **changes).model_dump(mode="json")
        command.append(json.dumps(settings | {"model": settings["model"] | {"unet": unet}}))
    run = subprocess.run(command, capture_output=True, text=True, timeout=280)
    assert run.returncode == 0, run.stderr
    found = dict(zip(WAYS, map(json.loads, run.stdout.splitlines()), strict=True))
    wrong = {
        way: figures
        for way, figures in found.items()
        if not figures["lived"] <= figures["planned"] <= 1.25 * figures["lived"]
    }
    assert not wrong
