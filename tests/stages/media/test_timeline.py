"""Time stamps to slots of a grid: arithmetic alone, no file."""

import math
from fractions import Fraction

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from posedance.stages.media.timeline import make_timeline

NTSC = Fraction(30000, 1001)


RATES = [
    Fraction(24000, 1001),
    Fraction(25),
    NTSC,
    Fraction(30),
    Fraction(50),
    Fraction(60000, 1001),
    Fraction(60),
]


@given(
    rate=st.sampled_from(RATES),
    tick=st.sampled_from([Fraction(1, 1000), Fraction(1, 90000), Fraction(1, 600), None]),
    count=st.integers(3, 400),
    origin=st.integers(-1000, 1000),
)
def test_rounded_time_stamps_give_each_frame_its_own_slot(rate, tick, count, origin):
    tick = tick or 1 / rate
    pts = [origin + math.floor(k / (rate * tick) + Fraction(1, 2)) for k in range(count)]
    timeline = make_timeline(pts, 0, tick, [rate])
    assert timeline.rate == rate
    assert timeline.constant
    assert [timeline.slot(stamp) for stamp in pts] == list(range(count))
    assert timeline.num_frames == count


@given(rate=st.sampled_from(RATES), dropped=st.sets(st.integers(1, 98), max_size=30))
def test_dropped_frames_leave_holes_in_a_constant_rate(rate, dropped):
    slots = [k for k in range(100) if k not in dropped]
    pts = [round(k * 1000 / rate) for k in slots]
    timeline = make_timeline(pts, 0, Fraction(1, 1000), [rate])
    assert timeline.rate == rate
    assert [timeline.slot(stamp) for stamp in pts] == slots


@given(st.lists(st.integers(1, 400), min_size=1, max_size=60))
def test_a_variable_rate_shows_the_last_frame_that_is_due(steps):
    tick = Fraction(1, 1000)
    pts = np.cumsum([0, *steps]).tolist()
    timeline = make_timeline(pts, steps[-1], tick, [])
    slots = [timeline.slot(stamp) for stamp in pts]
    assert slots == sorted(slots)
    assert slots[0] == 0
    half_frame = Fraction(1, 2) / timeline.rate
    for stamp, slot in zip(pts, slots, strict=True):
        late = slot / timeline.rate - stamp * tick
        if timeline.constant:
            assert abs(late) <= half_frame
        else:
            assert -tick <= late < 1 / timeline.rate
    assert abs(timeline.num_frames / timeline.rate - timeline.end * tick) <= 2 / timeline.rate + tick
