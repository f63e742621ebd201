"""What page and server tell about a model, and the tokenizer that stands beside its weights."""

import json
from pathlib import Path
from typing import Any

from shared.model.transformer import Transformer
from shared.training.checkpoint import TOKENIZER_FILE
from shared.training.run_log import read_metrics


def tokenizer_of(checkpoint: Path) -> dict[str, Any]:
    """What the tokenizer's `save` wrote."""
    return json.loads((checkpoint / TOKENIZER_FILE).read_text(encoding="utf-8"))


def facts_of(model: Transformer, checkpoint: Path) -> dict[str, Any]:
    """What the page tells about the model."""
    validated = [
        e["validation"] for e in read_metrics(checkpoint.parent.parent) if "validation" in e
    ]
    return {
        "parameters": model.count_parameters(),
        "context_bytes": model.config.context_length,
        "step": int(checkpoint.name[5:]) if checkpoint.name[5:].isdigit() else None,
        "bits_per_byte": validated[-1] if validated else {},
    }
