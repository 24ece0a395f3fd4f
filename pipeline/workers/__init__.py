"""Workers: who runs tasks, in this process or on Ray, and on what share of the machines."""
