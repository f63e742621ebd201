"""Presets: sizes of model with a name, from minutes on a laptop to weeks on many GPUs.

Those up to `base` read bytes. From `50m` on they are meant for a BPE vocabulary: GPT-2's
50,257 ids, filled up to a multiple of 128 (quicker matrix products), and the head shares
the embedding's matrix, which would otherwise be counted twice.
Promoted by 03_attention.
"""

from functools import partial

from shared.model.config import ModelConfig

BPE_VOCABULARY = 50_304

_reads_bpe = partial(ModelConfig, vocab_size=BPE_VOCABULARY, tied_head=True)
_long, _longer = partial(_reads_bpe, context_length=1024), partial(_reads_bpe, context_length=2048)

PRESETS: dict[str, ModelConfig] = {
    "nano": ModelConfig(n_layers=5, d_model=128, n_heads=4),
    "tiny": ModelConfig(n_layers=5, d_model=256, n_heads=4),
    "small": ModelConfig(n_layers=6, d_model=384, n_heads=6),
    "base": ModelConfig(n_layers=8, d_model=512, n_heads=8, context_length=512),
    "50m": _long(n_layers=8, d_model=512, n_heads=8),
    "124m": _long(n_layers=12, d_model=768, n_heads=12),
    "500m": _long(n_layers=22, d_model=1280, n_heads=20),
    "1b": _longer(n_layers=16, d_model=2048, n_heads=32, n_kv_heads=8, d_ff=8192),
    "3b": _longer(n_layers=28, d_model=3072, n_heads=24, n_kv_heads=8, d_ff=8192),
}
