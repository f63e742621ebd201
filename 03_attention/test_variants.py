"""Every switch of the model does what its name says, and every variant can learn."""

import math
from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from shared.errors import UserError
from shared.model.config import ModelConfig, MoEConfig, NormConfig, RopeConfig
from shared.model.feedforward import PlainFeedForward
from shared.model.moe import auxiliary_loss
from shared.model.norms import LayerNorm
from shared.model.positions import document_positions, rope_angles
from shared.model.transformer import Transformer
from shared.model.weights import load_weights, save_weights

pytestmark = pytest.mark.usefixtures("one_thread")


def random_ids(*shape: int, seed: int = 1, start: int | None = None) -> torch.Tensor:
    """Ids without the id `start`, so that a test can put it where it wants."""
    ids = torch.randint(256, shape, generator=torch.Generator().manual_seed(seed))
    return ids if start is None else ids.where(ids != start, 0)


def test_every_variant_learns_a_tiny_sample_and_looks_only_back(variant, tiny_config):
    torch.manual_seed(0)
    model = Transformer(replace(tiny_config, **variant)).train()
    ids = random_ids(2, 17)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-2)
    for _ in range(18):
        optimizer.zero_grad()
        (next_id_loss(model, ids) + auxiliary_loss(model)).backward()
        optimizer.step()
    model.eval()
    with torch.no_grad():
        assert next_id_loss(model, ids) < 1.5  # of 5.5 at first; 3.5 knows the ids but no order
        changed = ids.clone()
        changed[:, 9] = (changed[:, 9] + 1) % 256
        before, after = model(ids), model(changed)
    assert torch.allclose(before[:, :9], after[:, :9], atol=1e-5)
    assert not torch.allclose(before[:, 9], after[:, 9], atol=1e-3)


def next_id_loss(model: Transformer, ids: torch.Tensor) -> torch.Tensor:
    return F.cross_entropy(model(ids[:, :-1]).flatten(0, 1), ids[:, 1:].flatten())


def test_every_variant_comes_back_from_disk(variant, random_model, tmp_path):
    model = random_model(**variant)
    save_weights(model, tmp_path)
    again = load_weights(tmp_path).eval()
    assert again.config == model.config
    assert again.count_parameters() == model.count_parameters()
    ids = random_ids(2, 12)
    assert torch.equal(again(ids), model(ids))


@pytest.mark.parametrize("positions", ["rope", "learned", "sinusoidal", "none"])
def test_only_without_positions_is_order_invisible_to_one_layer(positions, random_model):
    """The last position sees a set of keys; turned or marked by their places, a list."""
    model = random_model(n_layers=1, positions=positions)
    ids = random_ids(1, 12)
    shuffled = ids.clone()
    shuffled[:, :11] = ids[:, torch.randperm(11, generator=torch.Generator().manual_seed(0))]
    same = torch.allclose(model(ids)[:, -1], model(shuffled)[:, -1], atol=1e-5)
    assert same == (positions == "none")


def test_sinusoidal_positions_are_vaswanis_at_the_embeddings_size(tiny_config):
    model = Transformer(replace(tiny_config, positions="sinusoidal"))
    table = model.position_embedding(torch.arange(32))
    assert table.square().mean().sqrt().item() == pytest.approx(0.02, rel=1e-3)
    ratio = 3 / 10_000 ** (2 * 2 / 32)  # position 3, pair 2
    assert table[3, 16 + 2].item() / (0.02 * 2**0.5) == pytest.approx(math.sin(ratio), rel=1e-5)


def test_interpolation_squeezes_positions_into_the_trained_range():
    plain = rope_angles(8, 16, RopeConfig())
    long = rope_angles(15, 16, RopeConfig(scaling="interpolation", factor=2.0))
    for part, longer in zip(plain, long, strict=True):
        assert torch.allclose(longer[::2], part, atol=1e-6)


def test_ntk_keeps_the_fast_pair_and_interpolates_the_slow_one():
    plain, ntk, squeezed = (
        torch.atan2(*reversed(rope_angles(2, 16, rope)))[1]  # angles at position 1
        for rope in (
            RopeConfig(),
            RopeConfig(scaling="ntk", factor=4.0),
            RopeConfig(scaling="interpolation", factor=4.0),
        )
    )
    assert ntk[0] == plain[0]
    assert ntk[-1].item() == pytest.approx(squeezed[-1].item(), rel=1e-5)
    assert (ntk[1:-1] < plain[1:-1]).all() and (ntk[1:-1] > squeezed[1:-1]).all()


@pytest.mark.parametrize("bias", [False, True])
def test_layer_norm_equals_torchs(bias):
    ours, theirs = LayerNorm(6, bias=bias), torch.nn.LayerNorm(6, bias=bias)
    x = torch.randn(4, 6, generator=torch.Generator().manual_seed(0)) * 3 + 1
    assert torch.allclose(ours(x), theirs(x), atol=1e-6)
    assert ours(x).mean().item() == pytest.approx(0, abs=1e-6)


def test_qk_norm_makes_scores_blind_to_the_size_of_queries_and_keys(random_model):
    model = random_model(norm=NormConfig(queries_and_keys=True, eps=0.0))
    ids = random_ids(1, 10)
    before = model(ids)
    with torch.no_grad():
        for block in model.blocks:
            block.attention.query.weight *= 7
            block.attention.key.weight *= 0.1
    assert torch.allclose(model(ids), before, atol=1e-4)


def test_gelu_and_squared_relu_by_hand():
    for activation, expected in (("gelu", 2 * 0.9772), ("relu2", 4.0)):
        layer = PlainFeedForward(
            ModelConfig(d_model=1, n_heads=1, d_ff=1, activation=activation, positions="none")
        )
        torch.nn.init.ones_(layer.up.weight)
        torch.nn.init.ones_(layer.down.weight)
        assert layer(torch.tensor([2.0])).item() == pytest.approx(expected, abs=1e-2)
    assert layer(torch.tensor([-2.0])).item() == 0  # relu2


def test_plain_feed_forwards_are_four_times_as_wide_and_swiglu_two_thirds_of_that():
    assert ModelConfig(d_model=96, activation="gelu").ff_width == 384
    assert ModelConfig(d_model=96).ff_width == 256


def test_bias_gives_every_linear_layer_of_a_block_a_constant_but_not_the_head(tiny_config):
    model = Transformer(replace(tiny_config, bias=True))
    linear = [m for m in model.blocks.modules() if isinstance(m, torch.nn.Linear)]
    assert linear and all(layer.bias is not None for layer in linear)
    assert model.head.bias is None
    assert all(not p.any() for name, p in model.named_parameters() if name.endswith("bias"))


def test_dropout_blanks_in_training_only(random_model):
    model = random_model(dropout=0.5)
    ids = random_ids(1, 10)
    assert torch.equal(model(ids), model(ids))
    model.train()
    assert not torch.equal(model(ids), model(ids))
    assert not any(isinstance(m, torch.nn.Dropout) for m in random_model().modules())


def test_a_tied_head_is_the_embedding_and_is_counted_and_saved_once(random_model, tmp_path):
    tied, own = random_model(tied_head=True), random_model()
    assert tied.head.weight is tied.embedding.weight
    assert own.count_parameters() - tied.count_parameters() == 256 * 32
    save_weights(tied, tmp_path)
    loaded = load_weights(tmp_path)
    assert loaded.head.weight is loaded.embedding.weight


def test_a_soft_cap_bounds_logits_and_keeps_their_order(random_model):
    plain, capped = random_model(), random_model(logit_cap=2.0)
    with torch.no_grad():
        plain.head.weight.mul_(3)
        capped.load_state_dict(plain.state_dict())
    ids = random_ids(1, 10)
    free, bounded = plain(ids), capped(ids)
    assert bounded.abs().max() < 2 < free.abs().max()
    assert torch.allclose(bounded, 2 * (free / 2).tanh(), atol=1e-5)


@pytest.mark.parametrize("window", [None, 3])
@pytest.mark.parametrize("positions", ["rope", "learned"])
def test_documents_in_one_window_equal_documents_run_apart(positions, window, random_model):
    model = random_model(document_start=30, positions=positions, window=window)
    lengths = (5, 9, 1, 8)  # the first is the tail of a document that began before the window
    parts = [random_ids(1, length, seed=length, start=30) for length in lengths]
    for part in parts[1:]:
        part[:, 0] = 30
    together = model(torch.cat(parts, dim=1))
    apart = torch.cat([model(part) for part in parts], dim=1)
    assert torch.allclose(together, apart, atol=1e-5)
    crossing = random_model(positions=positions, window=window)
    crossing.load_state_dict(model.state_dict())
    assert not torch.allclose(crossing(torch.cat(parts, dim=1)), apart, atol=1e-3)


def test_document_numbers_and_places_by_hand():
    documents, places = document_positions(torch.tensor([[7, 8, 30, 9, 30, 30, 4]]), start=30)
    assert documents.tolist() == [[0, 0, 1, 1, 2, 3, 3]]
    assert places.tolist() == [[0, 1, 0, 1, 0, 0, 1]]


def test_recomputing_gives_the_same_gradients(random_model):
    model = random_model(moe=MoEConfig(n_experts=4), document_start=30).train()
    ids = random_ids(2, 17)
    gradients = []
    for recompute in (False, True):
        model.recompute = recompute
        model.zero_grad()
        (next_id_loss(model, ids) + auxiliary_loss(model)).backward()
        gradients.append([parameter.grad.clone() for parameter in model.parameters()])
    for kept, again in zip(*gradients, strict=True):
        assert torch.equal(kept, again)


def test_recomputing_keeps_less_for_the_backward_pass(random_model):
    """Counts the bytes that autograd holds between the forward and the backward pass."""
    model = random_model(n_layers=4).train()
    held = []
    for recompute in (False, True):
        model.recompute = recompute
        kept: dict[int, int] = {}

        def keep(tensor: torch.Tensor, kept: dict[int, int] = kept) -> torch.Tensor:
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            loss = model(random_ids(4, 32)).sum()
        held.append(sum(kept.values()))
        del loss
    assert held[1] < held[0] / 3


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"window": 0}, "model.window is 0"),
        ({"dropout": 1.0}, "model.dropout is 1.0; expected 0 to below 1"),
        ({"logit_cap": 0.0}, "model.logit_cap is 0.0"),
    ],
)
def test_impossible_switches_are_refused(fields, message):
    with pytest.raises(UserError, match=message):
        ModelConfig(**fields)


def test_impossible_families_are_refused():
    with pytest.raises(UserError, match="top_k is 5; expected 1 to n_experts 4"):
        MoEConfig(n_experts=4, top_k=5)
    with pytest.raises(UserError, match="set scaling to interpolation or ntk"):
        RopeConfig(factor=2.0)
    with pytest.raises(UserError, match=r"factor is 0.5; it must be at least 1"):
        RopeConfig(scaling="ntk", factor=0.5)
    with pytest.raises(UserError, match=r"model\.moe\.n_experts is 0; it must be at least 1"):
        MoEConfig(n_experts=0)
    with pytest.raises(UserError, match=r"model\.norm\.eps is -1e-05; it must be at least 0"):
        NormConfig(eps=-1e-5)
