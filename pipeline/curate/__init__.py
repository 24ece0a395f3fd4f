"""`curate`: a folder of raw videos in; shards to train from, and what became of every clip."""
