"""Which objective, baseline and sampler of the warmup method go together."""

from __future__ import annotations

from warmup.config.schema import WarmupMethod
from warmup.errors import wrong_value


def check_estimator(method: WarmupMethod) -> None:
    """Refuse combinations whose gradient would be that of nothing.

    Raises:
        UserError: naming the key, and what is allowed beside the other choices.
    """
    objective, sampler = method.objective, method.sampler
    bounds = objective in ("vimco", "elbo")
    if bounds and method.baseline == "none":
        raise wrong_value("method.baseline", "none", f"mean or loo with method.objective={objective}")
    if bounds and sampler in ("without_replacement", "recognition"):
        reason = "whose bound is of draws from the model itself"
        raise wrong_value("method.sampler", sampler, f"iid or adaptive with method.objective={objective}, {reason}")
    for key in ("sampling_temperature", "sampling_top_p"):
        value = getattr(method, key)
        if value != 1 and (bounds or sampler != "iid"):
            allowed = "1.0 unless method.sampler=iid and method.objective=marginal or resample, which weigh the draws"
            raise wrong_value(f"method.{key}", value, allowed)
    if objective == "resample" and sampler in ("adaptive", "recognition"):
        raise wrong_value("method.sampler", sampler, "iid or without_replacement with method.objective=resample")
    if sampler == "adaptive" and method.num_samples < 3:
        raise wrong_value("method.num_samples", method.num_samples, "at least 3 with method.sampler=adaptive")
