"""Data: sources of images, the built-in set, LOL, batches in a seeded order, crops on the device."""
