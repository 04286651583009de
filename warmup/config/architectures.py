"""The types of models that can be built fresh: the rows of `warmup.models.model_types`, which takes torch to import."""

# Each with whether its blocks drop out.
ARCHITECTURES = {
    "t5": True,
    "mt5": True,
    "bart": True,
    "mbart": True,
    "llama": False,
    "mistral": False,
    "qwen2": False,
}
