"""Exact ranking, retrieval scores, re-ranking, and embedding of image sets."""
