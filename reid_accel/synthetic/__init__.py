"""The synthetic market: drawn pedestrians and the cameras that see them."""
