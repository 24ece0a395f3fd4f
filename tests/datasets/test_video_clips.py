"""Training clips from real videos and poses: the published layout, bad records left out with reasons."""

import json
from fractions import Fraction

import numpy as np
import pytest

from posedance.datasets.clips import BadRecord, Clip, ClipSpec, loss_weights
from posedance.datasets.puppets.render import PARTS, make_character, make_motion, render
from posedance.datasets.video_clips import VideoClips, folder_sources, published_sources
from posedance.stages.errors import ConfigError
from posedance.stages.media.encode import VideoWriter
from posedance.stages.media.picture import fit_cover
from posedance.stages.pose.files import save_poses
from posedance.stages.pose.render import draw_control_frames
from posedance.stages.types import PoseSequence

SIZE, FPS, FRAMES = (96, 128), Fraction(30), 20
SPEC = ClipSpec(width=48, height=80, canvas=216, frames=2, spacing=3)  # a clip needs 9 frames


@pytest.fixture(scope="module")
def dance(tmp_path_factory):
    """A drawn dance as a video, its poses, and the video of its control frames in the published colours."""
    folder = tmp_path_factory.mktemp("dance")
    character, motion = make_character(3), make_motion(4, FPS)
    drawn = [render(character, motion, i, *SIZE) for i in range(FRAMES)]
    poses = PoseSequence(
        np.stack([one.keypoints for one in drawn]), np.stack([one.scores for one in drawn]), SIZE, FPS
    )
    write(folder / "dance.mp4", [one.image for one in drawn])
    write(folder / "guide.mp4", [frame[..., ::-1] for frame in draw_control_frames(poses, *SIZE, 216)])
    save_poses(folder / "dance.npz", poses)
    return folder, drawn, poses


def write(path, frames, fps=FPS):
    with VideoWriter(path, *SIZE, fps, crf=4, preset="veryfast") as writer:
        for frame in frames:
            writer.write(np.ascontiguousarray(frame))


def detections(count, score=0.9):
    boxes = [[[0.25, 0.5], [0.5, 0.625]], [[0.9, 0.9], [1.0, 1.0]]]
    return [
        {"boxes": [[[0, 0], [1, 1]]], "hands_boxes": boxes, "hands_score": [[score] * 21, [0.1] * 21]}
    ] * count


def published(folder, records, count=FRAMES):
    (folder / "1.json").write_text(json.dumps(detections(count)))
    (folder / "meta_info.json").write_text(json.dumps(records))
    return VideoClips(SPEC, *published_sources(folder / "meta_info.json"))


def record(dance, **changes):
    folder = dance[0]
    paths = {
        "video_path": str(folder / "dance.mp4"),
        "guide_path": str(folder / "guide.mp4"),
        "meta_info": "1.json",
    }
    return paths | changes


def test_the_published_layout(dance, tmp_path):
    _, drawn, poses = dance
    clips = published(tmp_path, [record(dance)])
    assert len(clips) == 2 and clips.bad == []
    clip = clips[1]
    assert clip.frames.shape == clip.control.shape == (3, 80, 48, 3)
    assert clip.number == 1
    for picture, moment in zip(clip.frames[1:], (12, 15), strict=True):
        assert np.abs(picture.astype(int) - fit_cover(drawn[moment].image, 48, 80)).mean() < 4
        assert np.abs(picture.astype(int) - fit_cover(drawn[moment - 3].image, 48, 80)).mean() > 4
    red = np.stack(list(draw_control_frames(poses[12:13], *SIZE, 216)))[..., 0].mean()
    blue = np.stack(list(draw_control_frames(poses[12:13], *SIZE, 216)))[..., 2].mean()
    assert (clip.control[1][..., 0].mean() > clip.control[1][..., 2].mean()) == (red > blue)


def test_a_guide_belongs_to_its_video_frame_by_frame_whatever_its_rate(dance, tmp_path):
    _, _, poses = dance
    drawn = [frame[..., ::-1] for frame in draw_control_frames(poses, *SIZE, 216)]
    write(tmp_path / "slow.mp4", drawn, Fraction(10))
    as_it_is, slow = (
        published(tmp_path, [record(dance, **change)])[1]
        for change in ({}, {"guide_path": str(tmp_path / "slow.mp4")})
    )
    assert np.abs(slow.control.astype(int) - as_it_is.control).mean() < 1


def test_hands_that_are_seen_weigh_as_published(dance, tmp_path):
    clip = published(tmp_path, [record(dance)])[0]
    weights = loss_weights(clip.parts, body=1, face=1, small=4.2)
    assert (weights[0] == 1).all()  # the reference's frame
    # 128 -> 80 rows and 96 -> 60 columns less 6 at each side: columns 9..24 and rows 40..50, and 10 around
    heavy = np.argwhere(weights[1] == np.float32(4.2))
    assert heavy.min(0).tolist() == [30, 0] and heavy.max(0).tolist() == [59, 33]
    assert set(np.unique(clip.parts)) == {0, PARTS.index("left_hand")}  # the other hand's score is low


def test_a_folder_of_videos_with_poses(dance, tmp_path):
    folder, drawn, _ = dance
    sources, bad = folder_sources(folder)
    assert [source.video.name for source in sources] == ["dance.mp4"]
    assert len(bad) == 1 and "guide.mp4" in bad[0].name  # no poses beside it
    clips = VideoClips(SPEC, sources, bad)
    clip = clips[0]
    again = clips[0]
    assert np.array_equal(clip.frames, again.frames) and np.array_equal(clip.control, again.control)
    for control, moment in zip(clip.control[1:], (3, 6), strict=True):
        shown = control.max(-1) > 60
        figure = drawn[moment].parts > 0
        rows = np.linspace(0, 127, 80).round().astype(int)
        columns = np.linspace(0, 95, 60).round().astype(int)[6:54]
        assert shown.any()
        assert (shown & figure[np.ix_(rows, columns)]).sum() > 0.6 * shown.sum()


def test_poses_of_every_other_frame_count_by_themselves(dance, tmp_path):
    folder, drawn, poses = dance
    write(tmp_path / "a.mp4", [one.image for one in drawn])
    halved = PoseSequence(poses.keypoints[::2], poses.scores[::2], SIZE, FPS / 2)
    save_poses(tmp_path / "a.npz", halved)
    (source,), bad = folder_sources(tmp_path)
    assert (source.frames, source.stride, bad) == (10, 2, [])
    clip = VideoClips(SPEC, [source], [])[0]
    whole = VideoClips(ClipSpec(48, 80, 216, 2, 6), *folder_sources(folder))[0]
    assert np.abs(clip.frames[1:].astype(int) - whole.frames[1:]).mean() < 3


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"video_path": "absent.mp4"}, "does not exist"),
        ({"meta_info": "absent.json"}, "does not exist"),
        ({"guide_path": None}, "expected the three paths"),
    ],
)
def test_a_bad_record_is_left_out_with_its_reason(dance, tmp_path, change, reason):
    clips = published(tmp_path, [record(dance), record(dance, **change)])
    assert len(clips) == 2
    assert len(clips.bad) == 1 and reason in clips.bad[0].reason and "record 1" in clips.bad[0].name


def test_short_videos_are_left_out_and_too_few_are_an_error(dance, tmp_path):
    write(tmp_path / "short.mp4", [one.image for one in dance[1][:5]])
    clips = published(tmp_path, [record(dance), record(dance, video_path=str(tmp_path / "short.mp4"))])
    assert len(clips) == 2 and "a clip needs 9" in clips.bad[0].reason
    with pytest.raises(ConfigError, match="no clip can be made"):
        published(tmp_path, [record(dance, video_path=str(tmp_path / "short.mp4"))])


def test_a_video_that_is_damaged_inside_is_a_bad_record(dance, tmp_path):
    folder = dance[0]
    data = bytearray((folder / "dance.mp4").read_bytes())
    start = data.index(b"mdat") + 9000
    data[start : start + 12000] = bytes(12000)  # four frames and a part of one
    (tmp_path / "dance.mp4").write_bytes(data)
    clips = published(tmp_path, [record(dance, video_path=str(tmp_path / "dance.mp4"))])
    found = [clips[i] for i in range(len(clips))]
    assert any(isinstance(one, BadRecord) and "dance.mp4" in str(one) for one in found)


def test_detections_that_are_cut_off_are_a_bad_record(dance, tmp_path):
    clips = published(tmp_path, [record(dance)], count=4)
    assert "1.json" in clips[0].reason
    assert not isinstance(clips[0], Clip)


def test_what_is_no_list_of_records_is_refused(tmp_path):
    for text in ("{}", "no json"):
        (tmp_path / "meta_info.json").write_text(text)
        with pytest.raises(ConfigError, match=r"meta_info\.json"):
            published_sources(tmp_path / "meta_info.json")
    with pytest.raises(ConfigError, match="no videos"):
        folder_sources(tmp_path)


def test_videos_need_a_spacing(dance):
    with pytest.raises(ConfigError, match=r"data\.spacing"):
        VideoClips(ClipSpec(48, 80, 216, 2, 0), *folder_sources(dance[0]))


def test_clips_have_square_pixels_and_no_moire(tmp_path, make_video):
    """Stored at half its width, with single black and white pixels: shown 320x400, and a clip is 48x80."""

    def draw(index, width, height):
        y, x = np.mgrid[:height, :width]
        pattern = (x + y) % 2 * 255
        disc = np.hypot(2 * (x - 79.5), y - 199.5) < 100
        return np.repeat(np.where(disc, pattern, 0).astype(np.uint8)[..., None], 3, axis=2)

    def halve(stream):
        stream.codec_context.sample_aspect_ratio = Fraction(2)

    options = {"crf": "2", "bf": "0"}
    make_video(tmp_path / "a.mp4", FRAMES, size=(160, 400), draw=draw, prepare=halve, options=options)
    poses = PoseSequence(np.ones((FRAMES, 133, 2)), np.ones((FRAMES, 133)), (320, 400), FPS)
    save_poses(tmp_path / "a.npz", poses)
    frame = VideoClips(SPEC, *folder_sources(tmp_path))[0].frames[1][..., 1]
    rows, columns = np.nonzero(frame > 64)
    assert abs(np.ptp(rows) + 1 - 40) <= 1
    assert abs(np.ptp(columns) + 1 - 40) <= 1
    assert float(frame[30:50, 14:34].std()) < 4


def fitted(poses):
    """Poses of 96x128 as `fit_cover` to 48x80 moves them."""
    points = poses.keypoints * np.float32(0.625) - np.array([6, 0], np.float32)
    return PoseSequence(points, poses.scores, (48, 80), FPS)


@pytest.mark.parametrize("layout", ["folder", "published"])
def test_the_reference_has_its_own_pose(dance, tmp_path, layout):
    folder, drawn, poses = dance
    whole = published(tmp_path, [record(dance)]) if layout == "published" else None
    clips = whole or VideoClips(SPEC, *folder_sources(folder))
    pictures = [fit_cover(one.image, 48, 80).astype(int) for one in drawn]
    controls = [frame.astype(int) for frame in draw_control_frames(fitted(poses), 48, 80, 216)]
    moments = []
    for i in range(len(clips)):
        clip = clips[i]
        moments.append(int(np.argmin([np.abs(clip.frames[0] - one).mean() for one in pictures])))
        shown = int(np.argmin([np.abs(clip.control[0] - one).mean() for one in controls]))
        assert shown == moments[-1]
    assert any(moment not in (0, SPEC.spacing, start) for start, moment in zip((0, 9), moments, strict=True))


def with_poses(dance, folder, keypoints, scores, size=SIZE):
    write(folder / "dance.mp4", [one.image for one in dance[1]])
    save_poses(folder / "dance.npz", PoseSequence(keypoints, scores, size, FPS))
    return folder_sources(folder)


@pytest.mark.parametrize("count", [FRAMES - 1, FRAMES // 2])
def test_poses_of_fewer_frames_do_not_belong(dance, tmp_path, count):
    poses = dance[2]
    sources, bad = with_poses(dance, tmp_path, poses.keypoints[:count], poses.scores[:count])
    assert sources == []
    assert f"its poses are {count} and its frames {FRAMES}" in bad[0].reason


def test_poses_of_another_picture_do_not_belong(dance, tmp_path):
    poses = dance[2]
    sources, bad = with_poses(dance, tmp_path, poses.keypoints, poses.scores, (1920, 1080))
    assert sources == []
    assert "a picture of 1920x1080, and its own is 96x128" in bad[0].reason


@pytest.mark.parametrize(("first", "last"), [(0, FRAMES), (9, FRAMES)])
def test_clips_where_nobody_is_are_bad_records(dance, tmp_path, first, last):
    poses = dance[2]
    scores = poses.scores.copy()
    scores[first:last] = 0
    clips = VideoClips(SPEC, *with_poses(dance, tmp_path, poses.keypoints, scores))
    assert isinstance(clips[1], BadRecord) and "nobody is in" in clips[1].reason
