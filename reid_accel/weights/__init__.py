"""Weights of other trainers and of published networks: read safely, recognized by their names, renamed to ours."""
