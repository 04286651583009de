"""Bias and variance of every gradient estimator; `scripts/estimator_variance.py` is its command."""
