"""`run.py doctor`: what is here, what works, and why the rest does not."""

import json
import platform
import shutil
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = (
    "posedance", "torch", "diffusers", "transformers", "av", "mediapipe", "rtmlib", "onnxruntime", "ray",
    "numpy", "opencv-contrib-python-headless", "opencv-contrib-python", "opencv-python", "pillow", "pyarrow",
)  # fmt: skip
"""Those whose version can change a result or break a run."""


def versions() -> dict[str, str]:
    """Versions of Python and of the installed packages that posedance works with."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def devices() -> list[str]:
    """One line for each device that can run the model, the CPU last."""
    import torch

    lines = [
        f"cuda:{index}: {torch.cuda.get_device_name(index)}, "
        f"{torch.cuda.get_device_properties(index).total_memory / 2**30:.0f} GiB"
        for index in range(torch.cuda.device_count())
    ]
    return [*lines, f"cpu: {platform.machine()}, {torch.get_num_threads()} threads"]


def environment(weights: dict[str, str]) -> str:
    """What a result was made with, as JSON: versions, devices, and the given digests of the weights."""
    return json.dumps({"versions": versions(), "devices": devices(), "weights": weights}, indent=1)


def report() -> str:
    """Everything `doctor` prints."""
    from ..stages.models import MODELS
    from ..stages.models import why_unusable as why_no_generator
    from ..stages.pose.estimators import ESTIMATORS
    from ..stages.pose.estimators import why_unusable as why_no_estimator

    found = versions()
    lines = ["versions", *(f"  {name} {number}" for name, number in found.items())]
    flavours = [name for name in found if name.startswith("opencv")]
    if len(flavours) > 1:
        lines.append(f"  ! {', '.join(flavours)} own the same cv2 folder: keep one (see requirements.lock)")
    lines += ["devices", *(f"  {line}" for line in devices())]
    lines += ["pose estimators", *(usable(name, why_no_estimator(name)) for name in ESTIMATORS)]
    lines += ["models", *(usable(name, why_no_generator(name) or None) for name in MODELS)]
    lines.append(f"free space here: {shutil.disk_usage(Path.cwd()).free / 2**30:.1f} GiB")
    return "\n".join(lines)


def usable(name: str, why_not: str | None) -> str:
    """One row of the report."""
    return f"  {name}: works" if why_not is None else f"  {name}: no: {why_not}"
