"""Warmup Generations (arXiv 2502.12304): train seq2seq models to write a short warmup before the answer."""

__version__ = "0.1.0"
