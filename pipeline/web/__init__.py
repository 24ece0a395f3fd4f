"""Web: a page on the same functions and job folders as the command line."""
