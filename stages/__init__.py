"""What is done: pure functions and small classes that know no Ray, no CLI and no YAML."""
