"""Manifests: which videos a batch makes, how they are named, and what is refused."""

import json
from pathlib import Path

import pytest
from PIL import Image

from posedance.pipeline.batch.manifest import (
    NAME_BYTES,
    crossed,
    driving_videos,
    make_items,
    read_manifest,
    tidy,
)
from posedance.pipeline.config import AnimateConfig
from posedance.pipeline.job.inputs import file_beside, input_digests
from posedance.stages.errors import ConfigError


@pytest.fixture
def inputs(tmp_path: Path) -> Path:
    """A folder with two videos, two pictures and a pose file, by name only."""
    for name in ("walk.mp4", "spin.mov", "anna.png", "bert.jpg", "wave.npz"):
        (tmp_path / name).touch()
    return tmp_path


def items_of(inputs: Path, name: str, text: str) -> list[tuple[str, AnimateConfig]]:
    """Items of a manifest of this name and text."""
    path = inputs / name
    path.write_text(text)
    base = AnimateConfig(output=inputs / "out", seed=7)
    return [(item.name, item.config) for item in make_items(read_manifest(path), base, name, inputs)]


TABLE = "driving,reference,seed,window.size\nwalk.mp4,anna.png,,\nspin.mov,bert.jpg,3,9\n"
LINES = (
    '{"driving": "walk.mp4", "reference": "anna.png"}\n'
    '{"driving": "spin.mov", "reference": "bert.jpg", "seed": 3, "window": {"size": 9}}\n'
)
LIST = """
- {driving: walk.mp4, reference: anna.png}
- {driving: spin.mov, reference: bert.jpg, seed: 3, window: {size: 9}}
"""


@pytest.mark.parametrize(("name", "text"), [("m.csv", TABLE), ("m.jsonl", LINES), ("m.yaml", LIST)])
def test_the_three_forms_say_the_same(inputs: Path, name: str, text: str) -> None:
    (first, walk), (second, spin) = items_of(inputs, name, text)
    assert (first, second) == ("walk--anna", "spin--bert--seed-3--window.size-9")
    assert (walk.seed, spin.seed, spin.window.size) == (7, 3, 9), "a row wins over the command line"
    assert (walk.driving, walk.reference) == (inputs / "walk.mp4", inputs / "anna.png")
    assert spin.output == inputs / "out" / second


def test_every_video_meets_every_picture(inputs: Path) -> None:
    rows, others = crossed(inputs, inputs)
    names = [item.name for item in make_items(rows, AnimateConfig(output=inputs / "out"), "x", inputs)]
    assert sorted(names) == ["spin--anna", "spin--bert", "walk--anna", "walk--bert"]
    assert others == 2 + 2, "neither a picture nor a video in its folder goes uncounted"


def test_equal_stems_get_names_that_another_row_does_not_change(inputs: Path) -> None:
    (inputs / "walk.mov").touch()
    text = "driving,reference\nwalk.mp4,anna.png\nwalk.mov,anna.png\n"
    first, *others = text.splitlines(keepends=True)
    names: list[str] = []
    for row in [*others, "spin.mov,anna.png\n"]:
        first += row
        more = [name for name, _ in items_of(inputs, "m.csv", first)]
        assert more[:-1] == names, "the results of earlier rows keep their folders"
        names = more
    assert names[0] == "walk--anna" and names[1].startswith("walk--anna-") and names[2] == "spin--anna"


def test_a_row_that_asks_for_the_same_is_made_once(inputs: Path) -> None:
    text = "driving,reference\nwalk.mp4,anna.png\nwalk.mp4,anna.png\n"
    assert len(items_of(inputs, "m.csv", text)) == 1


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        (
            "m.csv",
            "driving,refrence\nwalk.mp4,anna.png\n",
            "row 1: unknown key refrence: did you mean reference",
        ),
        ("m.csv", "driving,reference\nwalk.mp4\n", "row 1 has not as many cells"),
        ("m.csv", "driving,reference\n", "is empty"),
        ("m.csv", "driving,reference\nrun.mp4,anna.png\n", "row 1: there is no file .*run.mp4"),
        ("m.csv", "driving\nwalk.mp4\n", "row 1: reference is missing"),
        ("m.csv", "reference\nanna.png\n", "row 1: name either driving or pose"),
        ("m.csv", "driving,reference,seed\nwalk.mp4,anna.png,x\n", "row 1: seed = x"),
        ("m.csv", "driving,reference,output\nwalk.mp4,anna.png,x\n", "row 1: output is decided"),
        ("m.csv", "pose,reference,start\nwave.npz,anna.png,2\n", "row 1: --start is of a driving video"),
        ("m.csv", "pose,reference,stride\nwave.npz,anna.png,3\n", "row 1: --stride is of a driving video"),
        ("m.csv", "driving,reference,lora_scale\nwalk.mp4,anna.png,0.5\n", "row 1: --lora-scale 0.5 without"),
        ("m.csv", "driving,reference,name\nwalk.mp4,anna.png,a\nspin.mov,anna.png,a-x\n", None),
        (
            "m.csv",
            "driving,reference,name\nwalk.mp4,anna.png,a\nspin.mov,anna.png,a\n",
            "row 2: the name a is",
        ),
        ("m.jsonl", "{", "cannot be parsed"),
        ("m.jsonl", "3", "must be a list of mappings"),
        ("m.yaml", "a: 1", "must be a list of mappings"),
        ("m.yaml", "- !!python/object:os.system {}", "cannot be parsed"),
        ("m.txt", "", "name it .csv"),
    ],
)
def test_what_cannot_be_run_is_told_with_its_row(
    inputs: Path, name: str, text: str, expected: str | None
) -> None:
    if expected is None:
        assert [name for name, _ in items_of(inputs, name, text)] == ["a", "a-x"]
        return
    with pytest.raises(ConfigError, match=expected) as error:
        items_of(inputs, name, text)
    assert "\n" not in str(error.value)


def test_names_are_safe_and_short(inputs: Path) -> None:
    assert tidy("../../etc/passwd") == "etc_passwd"
    assert tidy("Тодес--anna") == "Тодес--anna"
    long = tidy("x" * 300)
    assert len(long) == NAME_BYTES and long != tidy("x" * 301)
    (inputs / tidy("舞" * 150)).mkdir()  # three bytes each: more than a file system takes
    assert tidy("舞" * 150) != tidy("舞" * 151)
    rows = [{"driving": "walk.mp4", "reference": "anna.png", "name": "../up"}]
    (item,) = make_items(rows, AnimateConfig(output=inputs / "out"), "x", inputs)
    assert item.config.output.parent == inputs / "out"
    assert json.dumps(item.config.model_dump(mode="json"))


@pytest.mark.parametrize("name", ["index.html", "events.jsonl", "summary.json", "index-0-of-3.html"])
def test_a_row_takes_no_name_of_the_batch_itself(inputs: Path, name: str) -> None:
    row = {"driving": "walk.mp4", "reference": "anna.png", "name": name}
    with pytest.raises(ConfigError, match=rf"row 1: a batch writes a file {name} itself: name the row"):
        make_items([row], AnimateConfig(output=inputs / "out"), "m.csv", inputs)


def test_a_name_that_is_null_is_no_name(inputs: Path) -> None:
    ((name, _),) = items_of(
        inputs, "m.jsonl", '{"driving": "walk.mp4", "reference": "anna.png", "name": null}'
    )
    assert name == "walk--anna"


def test_rows_name_their_own_lora_weights(inputs: Path) -> None:
    (inputs / "style.safetensors").touch()
    text = "driving,reference,lora,lora_scale\nwalk.mp4,anna.png,,\nwalk.mp4,bert.jpg,style.safetensors,0.5\n"
    (_, plain), (_, styled) = items_of(inputs, "m.csv", text)
    assert plain.lora is None
    assert (styled.lora, styled.lora_scale) == (inputs / "style.safetensors", 0.5)
    with pytest.raises(ConfigError, match=r"row 2: there is no file .*other"):
        items_of(inputs, "m.csv", text.replace("style.", "other."))


def test_what_the_command_line_says_of_driving_videos_may_meet_rows_with_poses(inputs: Path) -> None:
    rows = [{"driving": "walk.mp4", "reference": "anna.png"}, {"pose": "wave.npz", "reference": "anna.png"}]
    base = AnimateConfig(output=inputs / "out", stride=3, lora_scale=0.5)
    assert [item.config.stride for item in make_items(rows, base, "x", inputs)] == [3, 3]


def test_a_folder_called_demo_is_not_the_model(inputs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (inputs / "demo").mkdir()
    (inputs / "mine").mkdir()
    monkeypatch.chdir(inputs)
    models = "driving,reference,model\nwalk.mp4,anna.png,demo\nwalk.mp4,anna.png,\nwalk.mp4,anna.png,mine\n"
    (_, named), (_, own) = items_of(inputs, "m.csv", models)
    assert named.model == "demo", "both rows that mean it"
    assert own.model == str(inputs / "mine")


def test_a_folder_or_pattern_of_pictures_is_one_driving_video(tmp_path):
    for folder, names in (("frames", ("1.png", "2.png", "notes.txt")), ("mixed", ("1.png", "a.mp4"))):
        (tmp_path / folder).mkdir()
        for name in names:
            (tmp_path / folder / name).write_bytes(b"x")
    frames = tmp_path / "frames"
    assert driving_videos(frames) == ([frames], 0)
    assert driving_videos(frames / "%d.png") == ([frames / "%d.png"], 0)
    assert driving_videos(tmp_path / "mixed") == ([tmp_path / "mixed" / "a.mp4"], 1)
    with pytest.raises(ConfigError, match="no video or folder"):
        driving_videos(frames / "%d.jpg")
    (tmp_path / "empty").mkdir()
    base = AnimateConfig(output=tmp_path / "out", reference=frames / "1.png", fps=12)
    rows = [{"driving": "frames"}, {"driving": "frames/%d.png"}]
    assert len(make_items(rows, base, "x", tmp_path)) == 2
    for driving in ("empty", "frames/%d.jpg"):
        with pytest.raises(ConfigError, match=rf"x, row 1: there is no file {tmp_path / driving}"):
            make_items([{"driving": driving}], base, "x", tmp_path)


def test_videos_of_a_folder_are_known_by_their_names_and_animations_by_their_frames(tmp_path: Path) -> None:
    for name in ("camera.MTS", "disc.vob", "old.wmv", "notes.txt"):
        (tmp_path / name).touch()
    frames = [Image.new("RGB", (16, 16), (40 * number, 0, 0)) for number in range(3)]
    frames[0].save(tmp_path / "dance.webp", save_all=True, append_images=frames[1:], duration=80)
    frames[0].save(tmp_path / "still.webp")
    found, others = driving_videos(tmp_path)
    assert [path.name for path in found] == ["camera.MTS", "dance.webp", "disc.vob", "old.wmv"]
    assert others == 2, "the text and the still picture"


def test_links_to_files_named_by_hashes_go_by_their_own_names(inputs: Path) -> None:
    blobs, snapshot = inputs / "blobs", inputs / "snapshot"
    blobs.mkdir()
    snapshot.mkdir()
    poses = snapshot / "dance"
    (blobs / "poses").mkdir()
    (blobs / "poses" / "0001.json").touch()
    poses.symlink_to(blobs / "poses")
    names = ("walk.mp4", "wave.json", "anna.png", "anna.npz", "style.safetensors", "adapter_config.json")
    for number, name in enumerate(names):
        (blobs / f"{number:064x}").write_text(name)
        (snapshot / name).symlink_to(Path("..", "blobs", f"{number:064x}"))
    (inputs / "latest").symlink_to(snapshot)
    rows = (
        "driving,pose,reference,lora\n"
        "latest/walk.mp4,,latest/anna.png,latest/style.safetensors\n"
        "latest/../snapshot/walk.mp4,,latest/anna.png,latest/style.safetensors\n"
        ",latest/wave.json,latest/anna.png,\n"
        ",latest/dance,latest/anna.png,\n"
    )
    (first, video), (_, json_poses), (third, folder) = items_of(inputs, "m.csv", rows)
    assert (first, third) == ("walk--anna", "dance--anna")
    assert (video.driving, video.lora) == (snapshot / "walk.mp4", snapshot / "style.safetensors")
    assert (json_poses.pose, folder.pose) == (snapshot / "wave.json", poses)
    assert file_beside(video.reference, ".npz") == snapshot / "anna.npz"
    assert len(input_digests(video, ["reference"])["reference"]) == 2
