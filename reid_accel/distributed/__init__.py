"""Distributed training: setup, collectives, sharding, signals, watchdog."""
