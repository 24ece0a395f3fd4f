"""Window plans and their weights: every frame is covered, weights sum to one, published plans are kept."""

from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from posedance.stages.errors import ConfigError
from posedance.stages.windows import PLANS, blend, even, mimicmotion, plan, published


@st.composite
def requests(draw, smallest_overlap, largest_below_size):
    """Number of frames, window size, overlap."""
    size = draw(st.integers(max(2, smallest_overlap + largest_below_size), 30))
    overlap = draw(st.integers(smallest_overlap, size - largest_below_size))
    return draw(st.integers(1, 200)), size, overlap


even_requests = requests(smallest_overlap=0, largest_below_size=2)
published_requests = requests(smallest_overlap=1, largest_below_size=1)
all_requests = st.one_of(
    even_requests.map(lambda r: ("even", *r)),
    published_requests.map(lambda r: ("published", *r)),
    published_requests.map(lambda r: ("mimicmotion", *r)),
)


def total_weights(windows, num_frames):
    totals = [0.0] * num_frames
    for window in windows:
        for frame, weight in zip(window.frames, window.weights, strict=True):
            totals[frame] += weight
    return totals


@given(all_requests)
def test_every_frame_is_covered_and_weights_sum_to_one(request):
    method, num_frames, size, overlap = request
    windows = plan(method, num_frames, size, overlap)
    assert total_weights(windows, num_frames) == pytest.approx([1.0] * num_frames, abs=1e-9)


@given(all_requests)
def test_windows_are_of_equal_size_without_repeats(request):
    method, num_frames, size, overlap = request
    windows = plan(method, num_frames, size, overlap)
    assert {len(window) for window in windows} == {min(size, num_frames)}
    assert len({window.frames for window in windows}) == len(windows)
    for window in windows:
        assert len(set(window.frames)) == len(window) == len(window.control) == len(window.weights)
        assert window.control[0] == 0
        assert min(window.weights) >= 0


@given(even_requests)
def test_even_windows_are_anchored_contiguous_and_evenly_spread(request):
    num_frames, size, overlap = request
    windows = even(num_frames, size, overlap)
    for window in windows:
        assert window.frames == window.control
        assert window.frames[0] == 0
        body = window.frames[1:]
        assert body == tuple(range(body[0], body[0] + len(body))) if body else num_frames == 1
        assert window.weights[0] == (window is windows[0])
        assert min(window.weights[1:], default=1) > 0
    steps = [b.frames[1] - a.frames[1] for a, b in pairwise(windows)]
    if steps:
        assert min(steps) >= 1
        assert max(steps) - min(steps) <= 1
        assert size - 1 - max(steps) >= overlap


@given(even_requests)
def test_even_uses_the_fewest_windows(request):
    num_frames, size, overlap = request
    windows = even(num_frames, size, overlap)
    reach_of_one_less = size - 1 + (len(windows) - 2) * (size - 1 - overlap)
    assert len(windows) == 1 or reach_of_one_less < num_frames - 1


@given(even_requests)
def test_even_fades_linearly_over_all_that_two_windows_share(request):
    num_frames, size, overlap = request
    windows = even(num_frames, size, overlap)
    for a, b in pairwise(windows):
        shared = sorted(set(a.frames[1:]) & set(b.frames[1:]))
        if any(frame in w.frames for frame in shared for w in windows if w not in (a, b)):
            continue
        rising = [b.weights[b.frames.index(frame)] for frame in shared]
        assert rising == pytest.approx([(i + 1) / (len(shared) + 1) for i in range(len(shared))])


@pytest.mark.parametrize("method", PLANS)
def test_short_videos_take_one_window(method):
    for num_frames in (1, 2, 7, 8):
        (window,) = plan(method, num_frames, 8, 2)
        assert window.frames == tuple(range(num_frames))
        assert window.weights == (1.0,) * num_frames


def test_even_at_the_edges():
    assert [w.frames for w in even(9, 8, 0)] == [(0, 1, 2, 3, 4, 5, 6, 7), (0, 2, 3, 4, 5, 6, 7, 8)]
    assert [w.frames for w in even(5, 3, 0)] == [(0, 1, 2), (0, 3, 4)]
    assert [w.frames for w in even(4, 3, 1)] == [(0, 1, 2), (0, 2, 3)]


def test_golden_published_starts(golden, read_json):
    for path in sorted((golden / "sampling_loop").glob("variant_*_meta.json")):
        meta = read_json(path)
        windows = published(meta["num_frames"], meta["frames_per_batch"], meta["overlap"])
        assert [w.frames[0] for w in windows] == meta["window_starts"]


def test_published_moves_the_last_window_back():
    windows = published(43, 24, 6)
    assert [w.frames[0] for w in windows] == [0, 18, 19]
    assert windows[1].weights[0] == 0.0
    assert windows[1].control[:3] == (0, 19, 20)


@pytest.mark.parametrize(
    ("method", "size", "overlap", "message"),
    [
        ("even", 8, 8, "not smaller than window size 8"),
        ("even", 8, 7, "at most 6"),
        ("even", 8, -1, "negative"),
        ("even", 1, 0, "at least 2"),
        ("published", 8, 9, "not smaller than window size 8"),
        ("published", 8, 0, "at least 1"),
        ("evn", 8, 2, "even, published"),
    ],
)
def test_impossible_requests(method, size, overlap, message):
    with pytest.raises(ConfigError, match=message):
        plan(method, 20, size, overlap)


@given(all_requests)
def test_blend_of_equal_predictions_is_their_value(request):
    method, num_frames, size, overlap = request
    windows = plan(method, num_frames, size, overlap)
    video = torch.arange(num_frames * 2.0).reshape(num_frames, 2)
    blended = blend(windows, (video[list(w.frames)] for w in windows), num_frames)
    assert torch.allclose(blended, video, rtol=1e-5)


def published_prediction(predict, num_frames, size, overlap):
    """The average as MimicMotion's pipeline takes it: sums of weighted predictions over sums of weights."""
    windows = [[0, *range(i + 1, i + size)] for i in range(0, num_frames - size + 1, size - overlap)]
    if windows[-1][-1] < num_frames - 1:
        windows.append([0, *range(num_frames - size + 1, num_frames)])
    weight = (torch.arange(size, dtype=torch.float64) + 0.5) * 2 / size
    weight = torch.minimum(weight, 2 - weight)
    total, count = torch.zeros(num_frames, dtype=torch.float64), torch.zeros(num_frames, dtype=torch.float64)
    for index, frames in enumerate(windows):
        total[frames] += predict(index, size) * weight
        count[frames] += weight
    return windows, total / count


@given(published_requests)
def test_mimicmotion_averages_as_published(request):
    num_frames, size, overlap = request
    windows = mimicmotion(num_frames, size, overlap)
    if num_frames <= size:
        assert len(windows) == 1
        return

    def predict(index, count):
        return torch.randn(count, generator=torch.Generator().manual_seed(index), dtype=torch.float64)

    expected_windows, expected = published_prediction(predict, num_frames, size, overlap)
    assert [list(window.frames) for window in windows] == expected_windows
    predictions = [predict(index, size) for index in range(len(windows))]
    assert torch.allclose(blend(windows, predictions, num_frames), expected.float(), atol=1e-5)


@given(published_requests)
def test_mimicmotion_anchors_every_window_on_the_reference(request):
    for window in mimicmotion(*request):
        assert window.frames == window.control
        assert window.frames[0] == 0
        assert min(window.weights) > 0


def test_mimicmotion_needs_an_overlap():
    with pytest.raises(ConfigError, match="overlap 0 leaves frames uncovered in the plan 'mimicmotion'"):
        mimicmotion(40, 16, 0)
