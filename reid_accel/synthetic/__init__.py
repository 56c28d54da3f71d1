"""The synthetic market: drawn pedestrians under several cameras."""
