"""Matrix-product operations of a training step, counted on paper from a configuration.

A product [a, b] x [b, c] takes 2 a b c. Backward takes twice as much as forward: one product for each factor.
B inputs of S source tokens, T target tokens, K warmups of M tokens; a continuation is M + 1 + T tokens long.
"""

from __future__ import annotations

from typing import Any

from warmup.studies.benchmark.workloads import Shape

FORWARD_AND_BACKWARD = 3


class T5Operations:
    """T5 and mT5."""

    def __init__(self, config: dict[str, Any]) -> None:
        self.width, self.inner = config["d_model"], config["num_heads"] * config["d_kv"]
        matrices = 3 if config.get("feed_forward_proj") == "gated-gelu" else 2
        self.feed_forward = 2 * matrices * self.width * config["d_ff"]
        self.projection = 2 * self.width * self.inner  # query, key, value or output of one token
        self.layers, self.decoder_layers = config["num_layers"], config["num_decoder_layers"]
        self.output = 2 * self.width * config["vocab_size"]

    def attention(self, pairs: int) -> int:
        """Scores and their products with values."""
        return 2 * 2 * pairs * self.inner

    def encoder(self, rows: int, source: int) -> int:
        tokens = rows * source
        return self.layers * (tokens * (4 * self.projection + self.feed_forward) + self.attention(tokens * source))

    def source_keys(self, rows: int, source: int) -> int:
        return self.decoder_layers * rows * source * 2 * self.projection

    def decoder(self, rows: int, source: int, length: int, seen: int) -> int:
        """Without the source's keys and values; each token attends to `seen` tokens of its own row."""
        tokens = rows * length
        whole = tokens * (6 * self.projection + self.feed_forward)
        return self.decoder_layers * (whole + self.attention(tokens * (seen + source)))

    def train(self, rows: int, source: int, length: int, read: int) -> int:
        """Rows of `length` decoder tokens, of which `read` reach the output layer in all."""
        decoder = self.source_keys(rows, source) + self.decoder(rows, source, length, length)
        return FORWARD_AND_BACKWARD * (self.encoder(rows, source) + decoder + read * self.output)

    def sample(self, shape: Shape, first: int, rows: int) -> int:
        """From sources whose keys and values are there: the first token by `first` rows, the others by `rows`."""
        total = 0
        for seen in range(1, shape.warmup + 1):
            writing = first if seen == 1 else rows
            total += self.decoder(writing, shape.source, 1, seen) + writing * self.output
        return total

    def sft(self, shape: Shape) -> int:
        return self.train(shape.batch, shape.source, shape.target, shape.batch * shape.target)

    def naive(self, shape: Shape, count: int) -> int:
        rows, length = shape.batch * count, shape.warmup + 1 + shape.target
        sampling = self.encoder(rows, shape.source) + self.source_keys(rows, shape.source)
        sampling += self.sample(shape, rows, rows)
        return sampling + self.train(rows, shape.source, length, rows * length)

    def ours(self, shape: Shape, count: int) -> int:
        """Sources are read once, for sampling too; forced separators never reach the output layer."""
        rows, length = shape.batch * count, shape.warmup + 1 + shape.target
        read = rows * (shape.warmup + shape.target)
        return self.sample(shape, shape.batch, rows) + self.train(shape.batch, shape.source, count * length, read)

    def resample(self, shape: Shape, count: int) -> int:
        """All targets scored without gradient; then one warmup is learnt from with its target, and one without."""
        rows, length = shape.batch * count, shape.warmup + 1 + shape.target
        scoring = self.decoder(shape.batch, shape.source, count * length, count * length)
        scoring += rows * shape.target * self.output
        chosen = self.train(shape.batch, shape.source, length, shape.batch * (shape.warmup + shape.target))
        other = self.decoder(shape.batch, shape.source, shape.warmup + 1, shape.warmup + 1)
        other += shape.batch * shape.warmup * self.output
        return self.sample(shape, shape.batch, rows) + scoring + chosen + FORWARD_AND_BACKWARD * other


class LlamaOperations:
    """Llama. Rotary angles are not counted."""

    def __init__(self, config: dict[str, Any]) -> None:
        width, heads = config["hidden_size"], config["num_attention_heads"]
        size = config.get("head_dim", width // heads)
        self.inner = heads * size
        projections = 2 * width * (2 * self.inner + 2 * config["num_key_value_heads"] * size)
        self.token = projections + 3 * 2 * width * config["intermediate_size"]
        self.layers = config["num_hidden_layers"]
        self.output = 2 * width * config["vocab_size"]

    def read(self, rows: int, length: int, seen: int) -> int:
        """`length` tokens in each row, each of which attends to `seen`."""
        tokens = rows * length
        return self.layers * (tokens * self.token + 2 * 2 * tokens * seen * self.inner)

    def sample(self, shape: Shape, first: int, rows: int) -> int:
        """From prompts that have been read."""
        steps = sum(self.read(rows, 1, shape.source + seen) for seen in range(1, shape.warmup))
        return steps + (first + rows * (shape.warmup - 1)) * self.output

    def sft(self, shape: Shape) -> int:
        length, read = shape.source + shape.target, shape.batch * shape.target
        return FORWARD_AND_BACKWARD * (self.read(shape.batch, length, length) + read * self.output)

    def naive(self, shape: Shape, count: int) -> int:
        rows, length = shape.batch * count, shape.warmup + 1 + shape.target
        whole = shape.source + length
        sampling = self.read(rows, shape.source, shape.source) + self.sample(shape, rows, rows)
        return sampling + FORWARD_AND_BACKWARD * (self.read(rows, whole, whole) + rows * length * self.output)

    def ours(self, shape: Shape, count: int) -> int:
        """The last token of a continuation predicts nothing and is not read."""
        rows, read = shape.batch * count, shape.batch * count * (shape.warmup + shape.target)
        branches = count * (shape.warmup + shape.target)
        prompt = self.read(shape.batch, shape.source, shape.source)
        packed = self.read(shape.batch, branches, shape.source + branches)
        return self.sample(shape, shape.batch, rows) + FORWARD_AND_BACKWARD * (prompt + packed + read * self.output)

    def resample(self, shape: Shape, count: int) -> int:
        """All targets scored without gradient; then one warmup is learnt from with its target, and one without."""
        rows, length = shape.batch * count, shape.warmup + shape.target
        scoring = self.read(shape.batch, count * length, shape.source + count * length)
        scoring += rows * shape.target * self.output
        learning = self.read(shape.batch, shape.source, shape.source)
        learning += self.read(shape.batch, length, shape.source + length) + shape.batch * length * self.output
        learning += self.read(shape.batch, shape.warmup, shape.source + shape.warmup)
        learning += shape.batch * shape.warmup * self.output
        return self.sample(shape, shape.batch, rows) + scoring + FORWARD_AND_BACKWARD * learning


def by_hand(config: dict[str, Any]) -> T5Operations | LlamaOperations:
    return LlamaOperations(config) if config["model_type"] == "llama" else T5Operations(config)
