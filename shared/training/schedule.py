"""Learning-rate schedules: pure functions from progress to a factor.

Progress runs from 0 at the first step to 1 at the last, whether a run is counted
in steps or in minutes. The factor multiplies the optimizer's own learning rate.
Promoted by 04_training.
"""

import math


def warmup(progress: float, share: float) -> float:
    """Rises from near 0 to 1 over the first `share` of the run, then stays at 1."""
    return min(1.0, (progress + 1e-3) / share) if share > 0 else 1.0


def warmup_cosine(progress: float, warmup_share: float = 0.02, final: float = 0.0) -> float:
    """Warmup, then half a cosine wave from 1 down to `final`.

    Source: Loshchilov and Hutter 2016, "SGDR", equation 5, without restarts.
    """
    falling = min(1.0, max(0.0, (progress - warmup_share) / (1 - warmup_share)))
    cosine = final + (1 - final) * (1 + math.cos(math.pi * falling)) / 2
    return warmup(progress, warmup_share) * cosine


def warmup_stable_decay(
    progress: float, warmup_share: float = 0.02, decay_share: float = 0.5, final: float = 0.0
) -> float:
    """Warmup, then 1, then a straight line to `final` over the last `decay_share`.

    Source: Hu et al. 2024, "MiniCPM", section 4.
    """
    falling = min(1.0, max(0.0, (progress - 1 + decay_share) / decay_share))
    return warmup(progress, warmup_share) * (1 - (1 - final) * falling)
