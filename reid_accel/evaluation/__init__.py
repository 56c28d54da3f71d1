"""Scoring a model and writing what a run leaves."""
