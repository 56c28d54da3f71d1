"""Evaluation of a model, and the final report of a run."""
