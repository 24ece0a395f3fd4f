"""How and where it runs: commands, configs, jobs. Imports stages and datasets; nothing imports it."""
