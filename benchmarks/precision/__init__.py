"""The effect of the option `network.precision`, with an accelerator's arithmetic emulated on a CPU."""
