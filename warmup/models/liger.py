"""Liger's kernels in the layers of a model: `trainer.arguments.use_liger_kernel`."""

from __future__ import annotations

import sys

from warmup.errors import wrong_value
from warmup.models.families import Model


def use_liger_kernels(model: Model) -> None:
    """Put them into `model`, in place: norms and feed-forward. The loss is the program's own.

    Raises:
        UserError: they are CUDA's, and of some types of models.
    """
    from liger_kernel.transformers import monkey_patch  # here: few runs ask for it, and it imports triton

    kind, known = model.config.model_type, sorted(monkey_patch.MODEL_TYPE_TO_APPLY_LIGER_FN)
    if model.device.type != "cuda" or kind not in known:
        allowed = f"null for a {kind} on {model.device.type}: Liger's kernels are for CUDA, and for {', '.join(known)}"
        raise wrong_value("trainer.arguments.use_liger_kernel", True, allowed)
    module = vars(sys.modules[type(model).__module__])
    before = dict(module)
    monkey_patch._apply_liger_kernel_to_instance(
        model, rope=False, cross_entropy=False, fused_linear_cross_entropy=False
    )
    module.update(before)  # Liger changes the classes too, and other models of this process are not asked
