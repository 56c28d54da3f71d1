"""Drawing pedestrians and the cameras that see them."""
