"""`upscale`: a video enlarged, each frame under control of its low-resolution self."""
