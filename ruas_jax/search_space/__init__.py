"""The search space: candidate operations, the one convolution they fold into, the cell, and genotypes."""
