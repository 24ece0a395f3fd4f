"""Training of ControlNeXt for pictures: `run.py train image`."""
