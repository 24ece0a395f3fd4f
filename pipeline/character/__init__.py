"""`character`: a reference image in a pose of the dance, from a prompt or a picture of somebody."""
