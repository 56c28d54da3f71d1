"""Pedestrian attributes: the vocabulary, annotation files, and scores."""
