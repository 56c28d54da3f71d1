"""Exported models, each proven equal to the network that it was made from."""
