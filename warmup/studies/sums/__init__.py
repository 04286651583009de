"""A case that can say yes: a small model whose pretraining holds the steps that a task needs, among other remarks."""
