"""The benchmark of the full UNet: its counted cost, and both orders of work give the same control."""

from posedance.pipeline.evaluate.bench.svd import compare_control, forward_tflop


def test_forward_of_the_full_unet_costs_what_was_counted():
    # 76.75 TFLOP, less the 3.75 % of the single-token cross-attention; linear in the frames
    assert forward_tflop(num_frames=2) * 12 <= 73.88


def test_both_orders_of_work_compute_the_same_control():
    comparison = compare_control(num_frames=4, side=32, steps=2, window=3, overlap=0, repeats=1)
    assert comparison.max_rel_diff <= 1e-3
