"""Pictures, videos and sound: read, timed, converted and written."""
