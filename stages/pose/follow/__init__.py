"""One person through a video: who it is, what fills gaps, what steadies poses, how well they were found."""
