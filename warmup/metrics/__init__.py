"""Scores of answers against references, and whether a difference between two systems is more than chance."""
