"""The settings that a result carries: read back whole, without paths, and from altered files not at all."""

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from posedance.pipeline.animate.like import fitting
from posedance.pipeline.animate.recorded import LONGEST, RECORDED, picked, read_settings, record_of
from posedance.pipeline.config import AnimateConfig, merge, resolve, write_yaml
from posedance.stages.errors import ConfigError, VideoError
from posedance.stages.media.encode import VideoWriter

WHERE = {
    "driving", "reference", "pose", "pose_size", "output", "lora", "lora_scale", "weights", "device",
    "memory_limit", "compile", "preview_every", "max_pixels", "estimator.device", "estimator.model",
    "estimator.detector", "character_prompt", "character", "upscaler", "accept", "accept_poses",
}  # fmt: skip
"""Options that no result keeps: inputs, paths, who is painted, and what does not change the video."""
ASKED = {
    "driving": "/home/anna/private/dance.mp4",
    "reference": "s3://key:secret@bucket/anna.png",
    "model": "/home/anna/models/my-dancer",
    "seed": 2**62,
    "steps": 7,
    "start": "1/3",
    "duration": 2.5,
    "person": "2",
    "estimator": {"name": "dwpose", "model": "/home/anna/dw.onnx"},
    "window": {"size": 6, "plan": "published"},
    "approximate": {"guidance_interval": [0.0, 0.5]},
    "encode": {"crf": 20},
}


def written(path: Path, comment: str | None) -> Path:
    lossless = path.suffix == ".mkv"
    with VideoWriter(path, 32, 32, Fraction(15), lossless=lossless, comment=comment) as writer:
        writer.write(np.zeros((32, 32, 3), np.uint8))
    return path


def forged(path: Path, settings: Any, **other: Any) -> Path:
    return written(path, json.dumps({"posedance": 1, "settings": settings, **other}, separators=(",", ":")))


@pytest.mark.parametrize("name", ["result.mp4", "result.mkv"])
def test_what_is_written_is_read_back_and_no_path_is_in_it(name: str, tmp_path: Path) -> None:
    asked = AnimateConfig.model_validate(ASKED)
    path = written(tmp_path / name, record_of(asked))
    found = read_settings(path)
    assert found.model == "my-dancer" and found.driving is None and found.start == Fraction(1, 3)
    for option in ("seed", "steps", "duration", "person", "window", "approximate", "encode"):
        assert getattr(found, option) == getattr(asked, option)
    assert found.estimator.name == "dwpose" and found.estimator.model is None
    content = path.read_bytes()
    assert not any(word in content for word in (b"anna", b"secret", b"home"))
    assert len(record_of(asked)) < LONGEST / 4


def test_equal_settings_give_equal_bytes(tmp_path: Path) -> None:
    one = AnimateConfig.model_validate(ASKED)
    other = one.model_copy(update={"driving": Path("b.mp4"), "output": Path("b"), "device": "cpu"})
    files = [written(tmp_path / f"{i}.mp4", record_of(config)) for i, config in enumerate((one, other))]
    assert files[0].read_bytes() == files[1].read_bytes()
    changed = one.model_copy(update={"seed": 3})
    assert written(tmp_path / "2.mp4", record_of(changed)).read_bytes() != files[0].read_bytes()


def test_only_an_enlarged_result_tells_that_it_is(tmp_path: Path) -> None:
    plain = AnimateConfig.model_validate(ASKED)
    larger = AnimateConfig.model_validate({**ASKED, "upscale": 2})
    assert record_of(larger) == record_of(plain) == record_of(plain, enlarged=True)
    assert read_settings(written(tmp_path / "a.mp4", record_of(larger, enlarged=True))).upscale == 2
    (tmp_path / "config.yaml").write_text(write_yaml(AnimateConfig(model="tiny-random", upscale=2)))
    assert read_settings(tmp_path).upscale == 2


def test_every_option_is_kept_or_known_to_stay_away() -> None:
    groups = {name for name, inner in RECORDED.items() if inner}
    kept = {name for name in RECORDED if name not in groups}
    kept |= {f"{name}.{inner}" for name in groups for inner in RECORDED[name]}
    options: set[str] = set()
    for name, value in AnimateConfig().model_dump().items():
        options |= {f"{name}.{inner}" for inner in value} if name in groups else {name}
    assert kept | WHERE == options and not kept & WHERE


def test_what_means_nothing_to_what_is_asked_is_not_taken() -> None:
    """Of the cut of a video beside a pose file, and of a network beside a figure of paper."""
    settings = AnimateConfig.model_validate({**picked(ASKED), "stride": 3})
    by_poses = fitting(settings, AnimateConfig(pose=Path("poses.npz")))
    assert by_poses.model_fields_set == settings.model_fields_set - {"start", "duration", "stride"}
    of_paper = fitting(settings, AnimateConfig(model="cutout"))
    left = {"model", "start", "duration", "stride", "person", "estimator", "encode"}
    assert of_paper.model_fields_set == left
    assert fitting(settings, AnimateConfig()) == settings


def test_a_job_folder_tells_the_same(tmp_path: Path) -> None:
    asked = AnimateConfig.model_validate(merge(ASKED, {"model": "tiny-random"}))
    (tmp_path / "config.yaml").write_text(write_yaml(asked))
    assert read_settings(tmp_path) == read_settings(written(tmp_path / "result.mp4", record_of(asked)))


def test_options_that_are_named_win(tmp_path: Path) -> None:
    below = read_settings(written(tmp_path / "a.mp4", record_of(AnimateConfig.model_validate(ASKED))))
    named = AnimateConfig(steps=3, reference=Path("b.png"))
    (tmp_path / "c.yaml").write_text("seed: 9\nencode: {preset: slow}")
    found = resolve(AnimateConfig, named, tmp_path / "c.yaml", below)
    assert (found.steps, found.seed, found.reference) == (3, 9, Path("b.png"))
    assert (found.encode.crf, found.encode.preset, found.window.size) == (20, "slow", 6)


@pytest.mark.parametrize(
    ("settings", "other", "told"),
    [
        ({"seed": 1, "driving": "/etc/passwd"}, {}, "options that no result keeps"),
        ({"estimator": {"model": "/tmp/x.task"}}, {}, "options that no result keeps"),
        ({"model": "../../tmp/model"}, {}, "a model by a path"),
        ({"model": ["demo"]}, {}, "a model by a path"),
        ({"steps": 10**9}, {}, "steps = 1000000000"),
        ({"window": {"size": "many"}}, {}, "window.size"),
        ({"window": 3}, {}, "window"),
        ({"seed": 1}, {"more": 1}, "more"),
        ("all", {}, "settings"),
        ({"person": "9" * LONGEST}, {}, "at most"),
    ],
)
def test_altered_settings_are_one_line(
    settings: Any, other: dict[str, Any], told: str, tmp_path: Path
) -> None:
    path = forged(tmp_path / "forged.mp4", settings, **other)
    with pytest.raises(ConfigError, match=told) as caught:
        read_settings(path)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 1000


def test_other_files_tell_no_settings(tmp_path: Path) -> None:
    for comment in (None, "made on a Sunday", '{"posedance":1,'):
        with pytest.raises(ConfigError, match=r"no settings|cannot be read"):
            read_settings(written(tmp_path / "other.mp4", comment))
    with pytest.raises(VideoError):
        read_settings(tmp_path / "absent.mp4")
    with pytest.raises(ConfigError, match=r"config\.yaml"):
        read_settings(tmp_path)
