"""Running a step function: the loop on the device, feeds, devices, run folders, snapshots and logs."""
