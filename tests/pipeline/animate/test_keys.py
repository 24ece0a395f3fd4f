"""The keys of steps: for every option and every input file, which of them change, and which do not."""

from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from shutil import copytree
from typing import Any

import pytest

from posedance.pipeline.animate.decided import PACKAGES, installed
from posedance.pipeline.animate.graph import STEPS, step_keys, steps_of
from posedance.pipeline.config import AnimateConfig, all_keys, merge
from posedance.stages.errors import ConfigError
from posedance.stages.models import load_generator, save_generator
from posedance.stages.pose.estimators import ESTIMATORS

MODEL = {"size", "settings", "placement", "control", "latents", "result", "comparison"}
SETTINGS = {"settings", "latents", "result", "comparison"}
DANCE = {"poses", "control", "latents", "result", "comparison"}
CHARACTER = {"reference", "placement", "control", "latents", "result", "comparison"}
PLACEMENT = {"placement", "control", "latents", "result", "comparison"}
LATENTS = {"latents", "result", "comparison"}
RESULT = {"result", "comparison"}
NOTHING: set[str] = set()

OPTIONS: dict[str, tuple[Any, set[str]]] = {
    "driving": ("other.mp4", DANCE),
    "reference": ("other.png", CHARACTER),
    "output": ("elsewhere", NOTHING),
    "character_prompt": (None, NOTHING),
    "upscale": (2, {"upscale", "comparison"}),
    "pose_size": ("640x480", NOTHING),
    "fps": (Fraction(12), DANCE),
    "max_pixels": (10**9, NOTHING),
    "stride": (1, DANCE),
    "start": (Fraction(1), DANCE),
    "duration": (Fraction(1), DANCE),
    "person": ("2", DANCE),
    "smooth": (0.5, DANCE),
    "estimator.device": ("cpu", DANCE | CHARACTER),
    "estimator.name": ("dwpose", DANCE | CHARACTER),
    "estimator.min_score": (0.4, DANCE | CHARACTER),
    "estimator.max_gap": (6, DANCE),
    "estimator.detector": ("other.npz", DANCE | CHARACTER),
    "estimator.model": ("other.npz", DANCE | CHARACTER),
    "encode.crf": (20, RESULT),
    "encode.preset": ("slow", RESULT),
    "encode.audio": (False, RESULT),
    "encode.bit_depth": (10, RESULT),
    "encode.lossless": (True, RESULT),
    "model": ("demo", MODEL),
    "preset": ("best", SETTINGS),
    "seed": (1, LATENTS),
    "width": (128, MODEL - {"settings"}),
    "height": (128, MODEL - {"settings"}),
    "steps": (3, SETTINGS),
    "guidance_scale": (1.5, SETTINGS),
    "lora": ("other.npz", LATENTS),
    "lora_scale": (0.5, LATENTS),
    "preview_every": (1, NOTHING),
    "accept.min_seen": (0.0, NOTHING),
    "accept.min_body": (0.0, NOTHING),
    "accept.min_hands": (0.0, NOTHING),
    "accept.min_face": (0.0, NOTHING),
    "accept.max_cut_off": (1.0, NOTHING),
    "accept.max_jitter": (9.0, NOTHING),
    "accept_poses": (True, NOTHING),
    "align": ("none", CHARACTER),
    "fit": ("pad", PLACEMENT),
    "window.size": (6, SETTINGS),
    "window.overlap": (1, SETTINGS),
    "window.plan": ("published", SETTINGS),
    "approximate.align_your_steps": (True, SETTINGS),
    "approximate.consistency": (True, SETTINGS),
    "approximate.guidance_interval": ((0.0, 0.5), SETTINGS),
    "approximate.cache_interval": (2, SETTINGS),
    "weights.base": ("acme/svd", MODEL),
    "weights.controlnext": ("other.npz", MODEL),
    "weights.unet": ("other.npz", MODEL),
    "weights.mimicmotion": ("other.npz", MODEL),
    "device": ("cpu", LATENTS),
    "precision": ("fp16", LATENTS),
    "memory_limit": (2.0, NOTHING),
    "compile": (True, NOTHING),
}
PAINTED = {"character", *CHARACTER, "upscale"}
EDGES = ("character.condition", "character.control")
"""One is refused without the other."""
LARGER = {"upscale", "comparison"}
PAINTING: dict[str, tuple[Any, set[str]]] = {
    "character_prompt": ("a dancer in blue", PAINTED),
    "upscale": (3, LARGER),
    "character.base": ("tiny-sdxl", PAINTED),
    "character.controlnext": ("other.npz", PAINTED),
    "character.unet": ("other.npz", PAINTED),
    "character.lora": (("other.npz",), PAINTED),
    "character.lora_scale": ((0.5,), PAINTED),
    "character.base_config": ("acme/sd", PAINTED),
    "character.vae": ("acme/vae", PAINTED),
    "character.frame": ("first", PAINTED),
    "character.negative_prompt": ("blurry", PAINTED),
    "character.picture": ("other.png", PAINTED),
    "character.strength": (0.5, PAINTED),
    "character.canvas": (100, PAINTED),
    "character.seed": (9, PAINTED),
    "character.seeds": (2, PAINTED),
    "character.steps": (3, PAINTED),
    "character.guidance_scale": (2.0, PAINTED),
    "character.scale": (0.5, PAINTED),
    "upscaler.base": ("tiny-sdxl", LARGER),
    "upscaler.controlnext": ("other.npz", LARGER),
    "upscaler.unet": ("other.npz", LARGER),
    "upscaler.lora": (("other.npz",), LARGER),
    "upscaler.lora_scale": ((0.5,), LARGER),
    "upscaler.base_config": ("acme/sd", LARGER),
    "upscaler.vae": ("acme/vae", LARGER),
    "upscaler.method": ("lanczos", LARGER),
    "upscaler.prompt": ("a dancer", LARGER),
    "upscaler.negative_prompt": ("blurry", LARGER),
    "upscaler.strength": (0.5, LARGER),
    "upscaler.steps": (3, LARGER),
    "upscaler.guidance_scale": (2.0, LARGER),
    "upscaler.scale": (0.5, LARGER),
    "upscaler.tile": (128, LARGER),
    "upscaler.overlap": (8, LARGER),
    "upscaler.neighbours": (0, LARGER),
    "upscaler.seed": (9, LARGER),
    "device": ("cpu", PAINTED),
    "precision": ("fp16", PAINTED),
    "estimator.min_score": (0.4, DANCE | PAINTED),
    "stride": (1, DANCE | PAINTED),
    "encode.crf": (20, RESULT | LARGER),
    "encode.lossless": (True, RESULT | LARGER),
    "width": (128, (MODEL - {"settings"}) | PAINTED),
    "seed": (1, LATENTS | LARGER),
}
"""The same of a config that has its character painted and the result enlarged."""
"""Another value of each option, and the steps that it changes. `pose` has a test of its own."""
FILES = {
    "driving.mp4": DANCE,
    "reference.png": CHARACTER,
    "reference.npz": CHARACTER,
    "lora.safetensors": LATENTS,
    "adapter_config.json": LATENTS,
    "estimator.task": DANCE | CHARACTER,
    "detector.onnx": DANCE | CHARACTER,
    "model/posedance.json": MODEL,
    "model/unet/diffusion_pytorch_model.safetensors": MODEL,
    "model/vae/config.json": MODEL,
    "model/README.md": NOTHING,
}
"""Every file that the config below reads, and the steps that it changes."""


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model and, as inputs, files of any content: keys look no further."""
    folder = tmp_path_factory.mktemp("given")
    save_generator(load_generator("tiny-random"), folder / "model")
    for name in [*FILES, "other.mp4", "other.png", "other.npz", "dance.npz"]:
        path = folder / name
        if not path.exists():
            path.write_text(name)
    return folder


def config(folder: Path, **changes: Any) -> AnimateConfig:
    """A config that names every kind of file."""
    options: dict[str, Any] = {
        "driving": folder / "driving.mp4",
        "reference": folder / "reference.png",
        "lora": folder / "lora.safetensors",
        "model": str(folder / "model"),
        "estimator": {"model": folder / "estimator.task", "detector": folder / "detector.onnx"},
    }
    return AnimateConfig.model_validate(merge(options, changes))


def changed(one: AnimateConfig, other: AnimateConfig) -> set[str]:
    before, after = step_keys(one), step_keys(other)
    return {step for step in STEPS if before.get(step) != after.get(step)}


def leaves() -> Iterator[str]:
    """Every option that is no group of options."""
    names = list(all_keys(AnimateConfig))
    return (name for name in names if not any(other.startswith(f"{name}.") for other in names))


def test_the_tables_know_every_option() -> None:
    groups = ("character.", "upscaler.")
    assert {name for name in leaves() if not name.startswith(groups)} == {*OPTIONS, "pose"}
    assert {name for name in leaves() if name.startswith(groups)} <= {*PAINTING, *EDGES}


@pytest.mark.parametrize("option", list(OPTIONS))
def test_an_option_changes_these_keys_and_no_others(given: Path, option: str) -> None:
    value: Any
    value, steps = OPTIONS[option]
    if isinstance(value, str) and (given / value).is_file():
        value = given / value
    for name in reversed(option.split(".")):
        value = {name: value}
    assert changed(config(given), config(given, **value)) == steps


@pytest.mark.parametrize("option", list(PAINTING))
def test_an_option_of_what_is_painted_changes_these_keys_and_no_others(given: Path, option: str) -> None:
    def painted(**changes: Any) -> AnimateConfig:
        files = {"base": "tiny-sd15", "lora": [given / "lora.safetensors"]}
        own: dict[str, Any] = {"character": files, "upscaler": files, "reference": None}
        return config(given, **merge({**own, "character_prompt": "a dancer", "upscale": 2}, changes))

    value: Any
    value, steps = PAINTING[option]
    if isinstance(value, str) and (given / value).is_file():
        value = str(given / value)
    elif isinstance(value, tuple) and (given / str(value[0])).is_file():
        value = (given / value[0],)
    for name in reversed(option.split(".")):
        value = {name: value}
    assert changed(painted(), painted(**value)) == steps


def test_edges_and_their_picture_change_the_keys_of_what_is_painted(given: Path) -> None:
    def painted(**edges: Any) -> AnimateConfig:
        who = {"character_prompt": "a dancer", "character": {"base": "tiny-sd15", **edges}, "upscale": 2}
        return config(given, reference=None, **who)

    one, other = (painted(condition="canny", control=given / name) for name in ("other.png", "other.npz"))
    assert changed(painted(), one) == changed(one, other) == PAINTED
    with pytest.raises(ConfigError, match="canny follows the edges of a picture: name it with control"):
        step_keys(painted(condition="canny"))


@pytest.mark.parametrize("name", list(FILES))
def test_the_content_of_a_file_changes_these_keys_and_no_others(
    given: Path, tmp_path: Path, name: str
) -> None:
    copy = copytree(given, tmp_path / "copy")
    assert changed(config(given), config(copy)) == set(), "the same files elsewhere are the same"
    with (copy / name).open("ab") as file:
        file.write(b"more")
    assert changed(config(given), config(copy)) == FILES[name]


def test_a_folder_of_pictures_counts_by_their_content_and_order(given: Path, tmp_path: Path) -> None:
    def danced(folder: Path) -> dict[str, str]:
        return step_keys(AnimateConfig(driving=folder, reference=given / "reference.png", fps=Fraction(24)))

    keys = []
    for name, numbers in (("one", (2, 10)), ("moved", (2, 10)), ("swapped", (10, 2))):
        folder = tmp_path / name
        folder.mkdir()
        for content, number in zip((b"first", b"second"), numbers, strict=True):
            (folder / f"{number}.png").write_bytes(content)
        keys.append(danced(folder))
    one, moved, swapped = keys
    assert one == moved
    assert danced(tmp_path / "one" / "%d.png") == danced(tmp_path / "moved" / "%d.png")
    assert danced(tmp_path / "one" / "%d.png") != danced(tmp_path / "swapped" / "%d.png")
    assert {step for step in one if one[step] != swapped[step]} == DANCE
    (tmp_path / "one" / "11.png").write_bytes(b"third")
    assert danced(tmp_path / "one")["poses"] != moved["poses"]


def test_of_a_pose_file_only_the_content_counts(given: Path, tmp_path: Path) -> None:
    def danced(**changes: Any) -> AnimateConfig:
        return config(given, **{"driving": None, "pose": given / "dance.npz", **changes})

    assert changed(config(given), danced()) == DANCE
    assert changed(danced(), danced(stride=1, smooth=0.0)) == set()
    assert changed(danced(), danced(pose_size="640x480")) == DANCE, "where it tells none, this is its size"
    (tmp_path / "same.npz").write_bytes((given / "dance.npz").read_bytes())
    assert changed(danced(), danced(pose=tmp_path / "same.npz")) == set()
    (tmp_path / "same.npz").write_bytes(b"another")
    assert changed(danced(), danced(pose=tmp_path / "same.npz")) == DANCE


def test_the_keypoints_beside_a_picture_count_when_they_appear(given: Path, tmp_path: Path) -> None:
    copy = copytree(given, tmp_path / "copy")
    (copy / "reference.npz").unlink()
    assert changed(config(given), config(copy)) == CHARACTER


def test_a_raised_version_of_a_step_makes_it_and_what_follows_again(given: Path) -> None:
    steps = steps_of(config(given))
    raised = tuple(replace(step, version=9) if step.name == "control" else step for step in steps)
    one, other = step_keys(config(given)), step_keys(config(given), raised)
    assert {step for step in one if one[step] != other[step]} == {"control", *LATENTS}


def test_a_model_of_the_table_is_not_a_folder_of_that_name(
    given: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    named = config(given, model="demo")
    before = step_keys(named)
    copytree(given / "model", tmp_path / "demo")
    monkeypatch.chdir(tmp_path)
    assert step_keys(named) == before


def test_the_version_of_an_estimator_s_package_counts(
    given: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = step_keys(config(given))
    (tmp_path / "mediapipe-99.0.dist-info").mkdir()
    (tmp_path / "mediapipe-99.0.dist-info" / "METADATA").write_text("Name: mediapipe\nVersion: 99.0\n")
    monkeypatch.syspath_prepend(tmp_path)
    installed.cache_clear()
    try:
        after = step_keys(config(given))
    finally:
        installed.cache_clear()
    assert {step for step in before if before[step] != after[step]} == DANCE | CHARACTER


def test_every_estimator_names_its_packages() -> None:
    assert PACKAGES.keys() == ESTIMATORS.keys()
