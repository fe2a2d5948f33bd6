"""Whether runs survive faults, and are the same on any devices."""
