"""Videos: enhanced frame by frame with an exposure that is steady over time; sound and timing are copied."""
