"""Figures that anyone can make on their own machine."""
