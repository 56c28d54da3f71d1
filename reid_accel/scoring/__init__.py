"""Scoring models and writing what a run leaves: what the scripts share."""
