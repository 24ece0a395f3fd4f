"""Shipped YAML files; each holds only its differences from the defaults in `posedance.pipeline.config`."""
