"""What a run keeps: checkpoints and its log of metrics."""
