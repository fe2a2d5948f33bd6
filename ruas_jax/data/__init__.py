"""Image data: sources of images, the built-in set, LOL, padding, and random crops on the device."""
