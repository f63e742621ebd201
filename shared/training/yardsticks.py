"""Yardsticks: what predictors that know no gradient make of the same text, in bits per byte.

Promoted by 05_full_run.
"""

import lzma

import numpy as np

from shared.text.tokenizer import END_OF_TEXT
from shared.training.counting_model import CountingModel

ORDER = 5  # bytes of context


def yardsticks(training: np.ndarray, validation: np.ndarray) -> dict[str, float]:
    """Name of each predictor -> bits per byte of `validation`, with `training` read before.

    Three seconds for 2.3 MB of training text, ten for 4 MB and a MB to guess (one core).

    Args:
        training: (bytes,) uint8, documents closed by 0x1E, which is no byte of the text.
        validation: (M,) uint8, likewise.
    """
    size = max(1, np.count_nonzero(validation != END_OF_TEXT))
    return {
        f"counting model, order {ORDER}": CountingModel(training, ORDER).bits(validation) / size,
        "xz, training text first": compressed_bits(training, validation) / size,
        "counting bytes": CountingModel(training, order=0).bits(validation) / size,
        "knowing nothing": 8.0,
    }


def compressed_bits(training: np.ndarray, validation: np.ndarray) -> int:
    """By how many bits `xz` grows if `validation` follows `training`.

    Its dictionary is 8 MiB: of more text before, it would have forgotten the beginning.
    """
    before = training.tobytes()
    both = before + validation.tobytes()
    return 8 * (len(lzma.compress(both)) - len(lzma.compress(before)))
