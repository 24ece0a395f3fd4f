"""Configs: layers merge, everything round-trips, and mistakes are told in one line."""

from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import TypeGuard, get_args

import pytest
from pydantic import BaseModel, ValidationError

from posedance import configs
from posedance.pipeline import cli_train
from posedance.pipeline.animate.dance import person_of, pose_size_of, with_pose_size
from posedance.pipeline.config import (
    AnimateConfig,
    BatchConfig,
    ClipConfig,
    Config,
    WindowConfig,
    resolve,
    write_yaml,
)
from posedance.pipeline.job.inputs import with_whole_paths
from posedance.stages.errors import ConfigError, VideoError


def test_command_line_wins_over_file_over_defaults(tmp_path: Path) -> None:
    file = tmp_path / "job.yaml"
    file.write_text("preset: preview\nsteps: 7\nwindow: {overlap: 1}\n")
    config = resolve(AnimateConfig, AnimateConfig(window=WindowConfig(size=9)), file)
    assert (config.steps, config.window.overlap, config.window.size) == (7, 1, 9)
    assert (config.preset, config.seed) == ("preview", 0)


def test_written_config_reads_back_equal(tmp_path: Path) -> None:
    config = AnimateConfig(driving=Path("a b.mp4"), start=Fraction(1001, 30000), seed=5, pose=None)
    file = tmp_path / "config.yaml"
    file.write_text(write_yaml(config))
    assert resolve(AnimateConfig, AnimateConfig(), file) == config


def test_a_person_is_a_word_a_number_a_point_or_a_box(tmp_path: Path) -> None:
    file = tmp_path / "job.yaml"
    for text, person in (
        ("2", 2),
        ("120,55.5", (120.0, 55.5)),
        ("left", "left"),
        ("1,2,3,4.5", (1, 2, 3, 4.5)),
    ):
        file.write_text(f"person: {text}\n")
        assert person_of(resolve(AnimateConfig, AnimateConfig(), file)) == person
    for text in ("0", "leftmost", "all", "12,", "true", "1,2,3", "5,5,5,9"):
        file.write_text(f"person: {text}\n")
        with pytest.raises(ConfigError, match=r"person"):
            resolve(AnimateConfig, AnimateConfig(), file)


def test_the_bit_depth_may_come_as_text() -> None:
    """From the command line and CSV files."""
    assert AnimateConfig.model_validate({"encode": {"bit_depth": "10"}}).encode.bit_depth == 10
    with pytest.raises(ValidationError, match="8 or 10"):
        AnimateConfig.model_validate({"encode": {"bit_depth": "12"}})


def test_the_size_of_a_pose_file_may_be_that_of_a_video(
    tmp_path: Path, make_video: Callable[..., Path]
) -> None:
    """Named relative to a manifest, too."""
    make_video(tmp_path / "dance.mp4", 3, size=(64, 48))
    options = with_whole_paths({"pose": "poses", "pose_size": "dance.mp4"}, tmp_path)
    config = with_pose_size(AnimateConfig.model_validate(options))
    assert config.pose_size == "64x48" and pose_size_of(config) == (64, 48)
    options = with_whole_paths({"pose": "poses", "pose_size": "1280x720"}, tmp_path)
    assert with_pose_size(AnimateConfig.model_validate(options)).pose_size == "1280x720"
    for wrong in ("640", "0x480", "no.mp4"):
        with pytest.raises(ConfigError, match=rf"--pose-size {wrong} is neither WIDTHxHEIGHT"):
            with_pose_size(AnimateConfig(pose=tmp_path, pose_size=wrong))
    (tmp_path / "no.mp4").write_text("no video")
    with pytest.raises(VideoError, match=r"no\.mp4"):
        with_pose_size(AnimateConfig(pose=tmp_path, pose_size=str(tmp_path / "no.mp4")))


def test_the_published_configuration_takes_the_published_poses() -> None:
    file = Path(configs.__path__[0], "animate", "published.yaml")
    assert resolve(AnimateConfig, AnimateConfig(), file).estimator.name == "dwpose"
    told = " ".join(line.removeprefix("# ") for line in file.read_text().splitlines() if line.startswith("#"))
    for what in (
        "downloaded at first use",
        "--estimator.model",
        "--estimator.detector",
        "--estimator.name mediapipe",
    ):
        assert what in told, "what to do without DWPose's files"


def test_seconds_in_yaml_are_exact(tmp_path: Path) -> None:
    file = tmp_path / "job.yaml"
    file.write_text("start: 0.1\nduration: 1e-1\n")
    config = resolve(AnimateConfig, AnimateConfig(), file)
    assert config.start == config.duration == Fraction(1, 10)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("stpes: 4", "job.yaml: unknown key stpes: did you mean steps?"),
        ("window: {overlp: 3}", "job.yaml: unknown key window.overlp: did you mean window.overlap?"),
        ("1: 2", "unknown key 1"),
        ("- a", "holds a list"),
        ("steps: [", "not plain YAML"),
        ("start: -1", "start = -1"),
        ("start: .nan", "start = nan"),
        ("duration: 0", "duration = 0"),
        ("steps: many", "steps = many"),
        ("memory_limit: .inf", "memory_limit = inf"),
        ("window: 3", "window = 3"),
        ("preset: bset", "'preview', 'default' or 'best'"),
    ],
)
def test_a_bad_file_is_told_in_one_line(tmp_path: Path, text: str, expected: str) -> None:
    file = tmp_path / "job.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError) as error:
        resolve(AnimateConfig, AnimateConfig(), file)
    assert expected in str(error.value)
    assert "\n" not in str(error.value)


def test_yaml_cannot_run_code(tmp_path: Path) -> None:
    file, proof = tmp_path / "job.yaml", tmp_path / "proof"
    file.write_text(f"steps: !!python/object/apply:os.mkdir ['{proof}']")
    with pytest.raises(ConfigError, match="not plain YAML"):
        resolve(AnimateConfig, AnimateConfig(), file)
    assert not proof.exists()


def test_a_missing_or_binary_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot read config file"):
        resolve(ClipConfig, ClipConfig(), tmp_path / "none.yaml")
    (tmp_path / "b.yaml").write_bytes(b"\xff\xfe\x00\x80")
    with pytest.raises(ConfigError, match="is not text"):
        resolve(ClipConfig, ClipConfig(), tmp_path / "b.yaml")


def test_every_option_of_every_config_says_what_it_is() -> None:
    """`--help` is made of these words."""
    configs = {AnimateConfig, BatchConfig, *(each for each in vars(cli_train).values() if is_config(each))}
    assert len(configs) > 6
    silent = {f"{config.__name__}: {name}" for config in configs for name in unexplained(config)}
    assert not silent


def is_config(value: object) -> TypeGuard[type[Config]]:
    return isinstance(value, type) and issubclass(value, Config)


def unexplained(config: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Dotted names of the options without a description; groups need none."""
    for name, field in config.model_fields.items():
        groups = [each for each in (field.annotation, *get_args(field.annotation)) if is_config(each)]
        if not groups and not field.description:
            yield prefix + name
        for group in groups:
            yield from unexplained(group, f"{prefix}{name}.")
