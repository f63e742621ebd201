"""Memory to train: what a step holds, line by line, and where it is largest.

`training_memory` adds up weights, gradients, optimizer state, what the forward pass keeps
for the backward pass (activations), and the tensors that come and go where all that is
held. Activations are counted as PyTorch keeps them on a CPU. A GPU's kernel for dropout keeps
less, a byte and not a number. Experts with recomputing need up to a seventh more than is
said here.
Source: Korthikanti et al. 2022, "Reducing Activation Recomputation in Large Transformer
Models", section 4, which does the same for GPT-3's block.
"""

from dataclasses import asdict, dataclass, replace
from typing import Literal

from shared.model.config import ModelConfig
from shared.model.counting import count_parameters
from shared.model.fast_paths import NARROW_WINDOW

FLOAT32 = 4  # bytes: weights, gradients, state, the residual stream, the loss
BFLOAT16 = 2  # bytes: what comes out of a matrix product under autocast


@dataclass(frozen=True)
class Memory:
    """Bytes held where a training step needs most, early in a backward pass."""

    weights: int
    gradients: int
    optimizer: int
    activations: int
    """kept for the backward pass; under autocast with the bfloat16 copies of matrices"""
    temporary: int
    """what comes and goes on top"""

    @property
    def total(self) -> int:
        """All at once, as when gradients of several micro-batches are added up.

        With one micro-batch a step it is an upper bound: gradients come as activations go.
        """
        return sum(asdict(self).values())


def training_memory(
    config: ModelConfig,
    batch: int,
    positions: int | None = None,
    autocast: bool = False,
    optimizer: Literal["adamw", "muon"] = "muon",
    recompute: bool = False,
) -> Memory:
    """Bytes to train on micro-batches of B windows of T positions (none: the context length).

    Args:
        autocast: matrix products in bfloat16; weights, gradients and state stay float32.
        optimizer: adamw keeps 8 bytes a parameter; muon 4 for the matrices inside blocks,
            and AdamW's 8 for all else.
        recompute: see `Transformer`.
    """
    positions = config.context_length if positions is None else positions
    tokens, layers, parts = batch * positions, config.n_layers, count_parameters(config)
    head = config.vocab_size * config.d_model
    hidden = _hidden_matrices(config)
    head_copy, copies = (BFLOAT16 * head, BFLOAT16 * hidden) if autocast else (0, 0)
    block = tokens * kept_by_block(config, batch, positions, autocast)
    end = tokens * kept_by_end(config, autocast) + head_copy
    loss_back = tokens * 2 * FLOAT32 * config.vocab_size
    block_back = tokens * _block_backward(config, autocast)
    if recompute:
        kept = layers * tokens * FLOAT32 * config.d_model
        again = block + block_back + copies // layers - end
        temporary = max(loss_back, again, copies + tokens * FLOAT32 * config.vocab_size)
    else:
        kept = layers * block + copies
        temporary = max(loss_back, block_back - end)
    state = 8 * parts.total - (4 * hidden if optimizer == "muon" else 0)
    weights = FLOAT32 * parts.total
    return Memory(weights, weights, state, kept + end, temporary)


def kept_by_block(config: ModelConfig, batch: int, positions: int, autocast: bool) -> int:
    """Bytes a token that one block keeps for the backward pass.

    What is kept is what some gradient formula needs: a matrix product's input, a norm's
    input, both factors of a product, SDPA's queries, keys, values and output.
    """
    channels, number = config.d_model, BFLOAT16 if autocast else FLOAT32
    norms = 2 * _norm(config) + channels * number
    if config.norm.queries_and_keys:
        heads, width = config.n_heads + config.kv_heads, config.head_width
        layer = config.norm.kind == "layer"  # keeps its input, as it came, mean and spread
        norms += heads * ((width * number + 2 * FLOAT32) if layer else FLOAT32 * (width + 1))
    dropout = 2 * channels * number if config.dropout else 0
    inner = _kept_by_attention(config, batch, positions, autocast)
    return norms + inner + dropout + _kept_by_feedforward(config, autocast)


def _kept_by_attention(config: ModelConfig, batch: int, positions: int, autocast: bool) -> int:
    """Bytes a token, the norms of queries and keys left out."""
    channels, number = config.d_model, BFLOAT16 if autocast else FLOAT32
    split, windowed = config.document_start is not None, positions > (config.window or positions)
    if autocast and windowed and config.window <= NARROW_WINDOW:
        return (6 * channels + 2 * config.window * config.n_heads) * number  # with all weights
    by_rows = autocast and not split  # see row_blocks: no softmax sums, output copied to merge
    layer = config.norm.queries_and_keys and config.norm.kind == "layer"
    reordered = layer and config.positions != "rope"  # RoPE puts heads side by side again
    merged = 1 if by_rows or windowed or reordered else 0
    sums = 0 if by_rows else FLOAT32 * config.n_heads
    attention = (4 + merged) * channels * number + sums
    if not by_rows and windowed:
        masks = 2 * config.window * (batch * config.n_heads if split else 1)
        attention += 2 * channels * number + masks * number // batch  # keys and values twice
    elif not by_rows and (split or config.window is not None):
        shared = 1 if split else batch  # one mask for all windows
        attention += positions * number // shared
    return attention


def kept_by_end(config: ModelConfig, autocast: bool) -> int:
    """Bytes a token kept by the final norm, the head, the loss, and as ids and targets.

    The loss keeps its log-probabilities in float32, whatever the logits are.
    """
    number = BFLOAT16 if autocast else FLOAT32
    capped = number * config.vocab_size if config.logit_cap is not None else 0
    head = config.d_model * number + FLOAT32 * config.vocab_size
    return _norm(config) + head + capped + 16


def _kept_by_feedforward(config: ModelConfig, autocast: bool) -> int:
    """Bytes a token: the input, and four vectors of F (gate, silu, up, product) or two."""
    number, channels = BFLOAT16 if autocast else FLOAT32, config.d_model
    gated = config.activation == "swiglu"
    inner = (4 if gated else 2) * config.ff_width * number
    inputs = channels * number
    if config.moe.n_experts == 1:
        return inputs + inner
    taken = config.moe.top_k
    router = FLOAT32 * (channels + config.moe.n_experts) + 32 * taken  # with choices and order
    answers = channels * (number + FLOAT32)  # before and after their weights
    return router + taken * (inputs + inner + answers)


def _norm(config: ModelConfig) -> int:
    """Input, mean and spread; or input / root, and the root. All float32."""
    return (config.d_model + (2 if config.norm.kind == "layer" else 1)) * FLOAT32


def _block_backward(config: ModelConfig, autocast: bool) -> int:
    """Bytes a token on top of a block in backward: gradients of its output and of F numbers."""
    vectors = {"swiglu": 2, "gelu": 1, "relu2": 3}[config.activation]  # of F
    inner = vectors * min(config.moe.top_k, config.moe.n_experts) * config.ff_width
    return FLOAT32 * config.d_model + inner * (BFLOAT16 if autocast else FLOAT32)


def _hidden_matrices(config: ModelConfig) -> int:
    """Numbers in the matrices inside blocks, routers not among them."""
    parts = count_parameters(replace(config, bias=False))
    experts = config.moe.n_experts
    routers = config.n_layers * config.d_model * experts if experts > 1 else 0
    return parts.attention + parts.feedforward - routers
