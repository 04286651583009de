"""What a training step costs next to plain fine-tuning; `scripts/benchmark.py` is its command."""
