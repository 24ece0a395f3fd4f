"""Memory: planned before a video is made, counted without data, and a second chance in smaller pieces."""
