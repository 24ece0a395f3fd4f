"""Train: ControlNeXt and the small networks around it."""
