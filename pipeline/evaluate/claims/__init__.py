"""Claims: ControlNeXt beside a ControlNet on a small network."""
