"""Answering with a trained model and scoring the answers."""
