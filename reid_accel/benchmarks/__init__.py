"""Benchmarks that run on any machine."""
