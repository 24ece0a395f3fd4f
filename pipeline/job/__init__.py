"""Jobs: folders that know what is done, and stores where results are published."""
