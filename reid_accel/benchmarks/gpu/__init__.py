"""What only a GPU can show, as one command: correctness, training speed, scoring speed, a run on real images."""
