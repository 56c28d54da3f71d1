"""Training: steps, inputs, optimizer, EMA, checkpoints, resume."""
