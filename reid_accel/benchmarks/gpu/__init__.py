"""The GPU benchmark: correctness, training speed, scoring speed and a run on real images, in one command."""
