"""Pictures to learn from: drawn, in folders, in tables; what cannot be used is told."""

import io
import pickle

import cv2
import numpy as np
import pyarrow
import pytest
from PIL import Image
from pyarrow import parquet

from posedance.datasets.clips import BadRecord
from posedance.datasets.pictures import (
    FolderPictures,
    PictureSpec,
    PuppetPictures,
    TablePictures,
    degrade,
    made_condition,
)
from posedance.datasets.puppets.render import NOBODY, make_character, reference_pose, render
from posedance.datasets.puppets.words import colour_name, describe
from posedance.stages.errors import ConfigError
from posedance.stages.image.conditions import canny, low_resolution
from posedance.stages.media.picture import write_png


def spec(kind="canny"):
    return PictureSpec(48, 64, kind, 192)


@pytest.mark.parametrize("kind", ["canny", "pose", "mask", "depth", "low-resolution"])
def test_drawn_dancers_follow_from_their_number(kind):
    pictures = PuppetPictures(spec(kind), 4, seed=3)
    first, again, other = pictures[1], PuppetPictures(spec(kind), 9, seed=3)[1], pictures[2]
    assert first.picture.shape == first.condition.shape == (64, 48, 3)
    assert np.array_equal(first.picture, again.picture) and np.array_equal(first.condition, again.condition)
    assert not np.array_equal(first.picture, other.picture)
    assert first.condition.std() > 1
    assert first.prompt.startswith("a dancer with ")


def test_mask_and_depth_come_from_the_geometry():
    drawn = render(make_character(5), reference_pose(5), 0, 96, 128)
    assert np.array_equal(drawn.depth > NOBODY, drawn.parts > 0)
    mask = PuppetPictures(spec("mask"), 1, seed=0)[0].condition
    depth = PuppetPictures(spec("depth"), 1, seed=0)[0].condition
    yellow = np.abs(depth.astype(int) - (253, 231, 37)).max(-1) < 8
    assert (mask[yellow] < 128).all() and yellow.mean() > 0.3, "nobody is far"
    assert (depth[mask[..., 0] == 255, 1] < 200).mean() > 0.9, "the dancer is nearer"


def test_prompts_name_the_colours():
    character = make_character(5)
    words = describe(character)
    for part in (
        character.outfit.top,
        character.outfit.bottom,
        character.outfit.hair,
        character.outfit.shoes,
    ):
        assert colour_name(part) in words
    assert [colour_name(c) for c in ((255, 0, 0), (20, 20, 20), (60, 90, 210))] == ["red", "black", "blue"]


def put(folder, name, size=(60, 80), **beside):
    picture = np.random.default_rng(len(name)).integers(0, 256, (size[1], size[0], 3), np.uint8)
    write_png(folder / f"{name}.png", picture)
    if "condition" in beside:
        write_png(folder / f"{name}.condition.png", beside["condition"])
    if "prompt" in beside:
        (folder / f"{name}.txt").write_text(beside["prompt"])
    return picture


def test_a_folder_with_conditions_and_prompts_beside(tmp_path):
    red = np.full((80, 60, 3), (255, 0, 0), np.uint8)
    put(tmp_path, "a", condition=red, prompt="one\n")
    put(tmp_path, "b")
    (tmp_path / "c.png").write_bytes(b"no picture")
    pictures = FolderPictures(tmp_path, spec(), 0)
    assert len(pictures) == 3
    a, b, c = (pictures[i] for i in range(3))
    assert a.prompt == "one" and (a.condition == (255, 0, 0)).all() and a.picture.shape == (64, 48, 3)
    assert b.prompt == "" and np.array_equal(b.condition, canny(b.picture))
    assert isinstance(c, BadRecord) and c.name == "c.png" and "\n" not in c.reason
    poses = FolderPictures(tmp_path, spec("pose"), 0)
    assert (poses[0].condition == (255, 0, 0)).all()
    assert isinstance(poses[1], BadRecord) and "put the condition pictures beside" in poses[1].reason
    (tmp_path / "none").mkdir()
    with pytest.raises(ConfigError, match="holds no pictures"):
        FolderPictures(tmp_path / "none", spec(), 0)


def png(colour):
    memory = io.BytesIO()
    Image.new("RGB", (60, 80), colour).save(memory, "PNG")
    return {"bytes": memory.getvalue(), "path": None}


@pytest.mark.parametrize("ending", ["parquet", "arrow"])
def test_a_hugging_face_data_set(tmp_path, ending):
    colours = ["red", "lime", "blue", "white", "black"]
    for number, rows in enumerate((range(3), range(3, 5))):
        columns = {
            "image": [png(colours[i]) for i in rows],
            "conditioning_image": [png("gray") for _ in rows],
            "text": [colours[i] for i in rows],
        }
        table, path = pyarrow.table(columns), tmp_path / f"data-{number}.{ending}"
        if ending == "parquet":
            parquet.write_table(table, path)
        else:
            with pyarrow.ipc.new_stream(str(path), table.schema) as stream:
                stream.write_table(table)
    pictures = pickle.loads(pickle.dumps(TablePictures(tmp_path, spec(), 0)))
    assert len(pictures) == 5
    samples = [pictures[i] for i in (4, 0, 3)]
    assert [sample.prompt for sample in samples] == ["black", "red", "white"]
    assert [tuple(sample.picture[0, 0]) for sample in samples] == [(0, 0, 0), (255, 0, 0), (255, 255, 255)]
    assert (samples[0].condition == 128).all()


def test_tables_that_cannot_be_used(tmp_path):
    with pytest.raises(ConfigError, match=r"no \*.parquet or \*.arrow"):
        TablePictures(tmp_path, spec(), 0)
    parquet.write_table(pyarrow.table({"caption": ["a"]}), tmp_path / "a.parquet")
    with pytest.raises(ConfigError, match="has the columns caption, and none of image"):
        TablePictures(tmp_path, spec(), 0)
    rows = [{"bytes": b"torn", "path": None}, png("red")]
    parquet.write_table(pyarrow.table({"image": rows}), tmp_path / "a.parquet")
    torn, whole = (TablePictures(tmp_path, spec(), 0)[i] for i in range(2))
    assert isinstance(torn, BadRecord) and "a.parquet, row 0" in str(torn)
    assert whole.prompt == ""
    (tmp_path / "a.parquet").write_bytes(b"torn")
    with pytest.raises(ConfigError, match="is no readable table"):
        TablePictures(tmp_path, spec(), 0)


def test_low_resolution_pictures_are_small_and_faulty():
    picture = render(make_character(5), reference_pose(5), 0, 96, 128).image
    rng = np.random.default_rng(0)
    sizes = {degrade(picture, rng).shape for _ in range(8)}
    assert len(sizes) > 3 and all(24 <= height <= 64 for height, _, _ in sizes)
    condition = made_condition(picture, spec("low-resolution"), rng)
    assert condition.shape == picture.shape
    assert 0.5 < np.abs(condition.astype(int) - picture).mean() < 30


def test_pictures_made_small_by_averaging_alone():
    plain = PictureSpec(48, 64, "low-resolution", 192, factor=2, faults=False)
    sample = PuppetPictures(plain, 1, seed=3)[0]
    small = cv2.resize(sample.picture, (24, 32), interpolation=cv2.INTER_AREA)
    assert np.array_equal(sample.condition, low_resolution(small, 48, 64))


def test_kept_pictures_are_drawn_once():
    pictures = PuppetPictures(spec(), 2, seed=3, keep=True)
    assert pictures[1] is pictures[1]
    assert np.array_equal(pictures[1].picture, PuppetPictures(spec(), 2, seed=3)[1].picture)
