"""The promoted model: causal to the bit, equal to the plain script, right by hand."""

import math

import attention as plain
import pytest
import torch
from torch.nn import functional as F

from shared.errors import UserError
from shared.model.causal_attention import CausalAttention, causal_mask
from shared.model.config import ModelConfig, RopeConfig
from shared.model.feedforward import SwiGLU
from shared.model.heads import share_heads
from shared.model.norms import RMSNorm
from shared.model.positions import rope_angles, rotate
from shared.model.transformer import Transformer
from shared.model.weights import load_weights, save_weights

IDS = torch.randint(256, (2, 32), generator=torch.Generator().manual_seed(1))


def test_attention_worked_by_hand():
    """Two positions, two channels: the second looks at both, one score ln 3 above the other."""
    gap = math.log(3) * math.sqrt(2)
    queries = torch.tensor([[5.0, 5.0], [gap, 0.0]])
    keys = torch.tensor([[0.0, 1.0], [1.0, 0.0]])
    values = torch.tensor([[4.0, 0.0], [0.0, 8.0]])
    mixed, weights = plain.attend(queries, keys, values)
    assert torch.allclose(weights, torch.tensor([[1.0, 0.0], [0.25, 0.75]]))
    assert torch.allclose(mixed, torch.tensor([[4.0, 0.0], [1.0, 6.0]]))
    fast = F.scaled_dot_product_attention(queries[None], keys[None], values[None], is_causal=True)
    assert torch.allclose(fast[0], mixed)


def test_future_tokens_cannot_change_the_past(tiny_model):
    """For every t, bitwise: dense float32 on the CPU runs the same kernel on the same shapes."""
    with torch.no_grad():
        before = tiny_model(IDS)
        for t in range(IDS.shape[1]):
            changed = IDS.clone()
            changed[:, t] = (changed[:, t] + 1) % 256
            after = tiny_model(changed)
            assert torch.equal(before[:, :t], after[:, :t]), f"byte {t} changed an earlier logit"
            assert not torch.equal(before[:, t:], after[:, t:]), f"byte {t} changed nothing"


def test_every_position_reaches_the_last_one(tiny_model):
    with torch.no_grad():
        last = tiny_model(IDS)[:, -1]
        for t in range(IDS.shape[1]):
            changed = IDS.clone()
            changed[:, t] = (changed[:, t] + 1) % 256
            assert not torch.equal(last, tiny_model(changed)[:, -1]), f"byte {t} is not seen"


def test_the_promoted_model_equals_the_plain_one_forward_and_gradients(tiny_model, tiny_config):
    weights = {k: v.detach().clone().requires_grad_() for k, v in tiny_model.state_dict().items()}
    ours = tiny_model(IDS)
    plainly = plain.decode(IDS, weights, tiny_config.n_heads, tiny_config.n_layers)
    assert torch.allclose(ours, plainly, atol=1e-5, rtol=1e-5)
    direction = torch.randn(ours.shape, generator=torch.Generator().manual_seed(0)) / ours.numel()
    (ours * direction).sum().backward()
    (plainly * direction).sum().backward()
    for name, parameter in tiny_model.named_parameters():
        assert parameter.grad.abs().max() > 0, name
        assert torch.allclose(parameter.grad, weights[name].grad, atol=1e-5, rtol=1e-4), name


@pytest.mark.parametrize("seed", range(3))
def test_the_untrained_loss_is_ln_256_within_two_percent(seed):
    torch.manual_seed(seed)
    model = Transformer(ModelConfig(n_layers=4, d_model=192, n_heads=3))
    ids = torch.randint(256, (8, 257))
    with torch.no_grad():
        loss = F.cross_entropy(model(ids[:, :-1]).flatten(0, 1), ids[:, 1:].flatten())
    assert loss.item() == pytest.approx(math.log(256), rel=0.02)


def test_shared_heads_are_repeated_in_runs():
    heads = torch.tensor([10.0, 20.0]).view(1, 2, 1, 1)
    assert share_heads(heads, 4).flatten().tolist() == [10.0, 10.0, 20.0, 20.0]


def test_grouped_queries_equal_full_attention_with_repeated_weights():
    grouped_config = ModelConfig(d_model=32, n_heads=4, n_kv_heads=2)
    full_config = ModelConfig(d_model=32, n_heads=4)
    torch.manual_seed(0)
    grouped, full = CausalAttention(grouped_config), CausalAttention(full_config)
    weights = grouped.state_dict()
    for name in ("key.weight", "value.weight"):
        per_head = weights[name].view(2, 8, 32)
        weights[name] = per_head[[0, 0, 1, 1]].reshape(32, 32)
    full.load_state_dict(weights)
    x = torch.randn(2, 10, 32)
    angles = rope_angles(10, 8, RopeConfig())
    assert torch.allclose(grouped(x, angles), full(x, angles), atol=1e-6)


def test_rope_scores_depend_only_on_distance():
    angles = tuple(part.double() for part in rope_angles(64, 16, RopeConfig()))
    query, key = torch.randn(2, 16, generator=torch.Generator().manual_seed(0)).double()
    turned_q = rotate(query.expand(1, 1, 64, 16), angles)[0, 0]
    turned_k = rotate(key.expand(1, 1, 64, 16), angles)[0, 0]
    scores = turned_q @ turned_k.T  # (64, 64): row = position of the query
    for distance in (0, 1, 7, 40):
        along = scores.diagonal(-distance)
        assert torch.allclose(along, along[0].expand_as(along), atol=1e-5)
    assert not torch.allclose(scores.diagonal(-1)[0], scores.diagonal(-2)[0], atol=1e-3)


def test_rope_pairs_the_two_halves_of_a_head():
    angles = rope_angles(2, 4, RopeConfig())
    turned = rotate(torch.tensor([1.0, 0, 0, 0]).expand(1, 1, 2, 4), angles)[0, 0, 1]
    expected = torch.tensor([math.cos(1), 0.0, math.sin(1), 0.0])  # channel 0 turns into channel 2
    assert torch.allclose(turned, expected)


def test_position_zero_is_not_turned_and_lengths_are_kept():
    x = torch.randn(1, 1, 8, 8)
    turned = rotate(x, rope_angles(8, 8, RopeConfig()))
    assert torch.equal(turned[0, 0, 0], x[0, 0, 0])
    assert torch.allclose(turned.norm(dim=-1), x.norm(dim=-1), atol=1e-5)


@pytest.mark.parametrize(
    ("dtype", "near"), [(torch.float32, 1e-5), (torch.bfloat16, 2e-2)], ids=["float32", "bfloat16"]
)
def test_rms_norms_gradients_are_pytorchs(dtype, near):
    torch.manual_seed(0)
    norm, x, direction = RMSNorm(16), torch.randn(3, 5, 16).to(dtype), torch.randn(3, 5, 16)
    torch.nn.init.normal_(norm.weight)
    x.requires_grad_()
    theirs = F.rms_norm(x, (16,), norm.weight.to(dtype), 1e-5)
    parts = (x, norm.weight)
    for one, other in zip(
        torch.autograd.grad(norm(x), parts, direction.to(dtype)),
        torch.autograd.grad(theirs, parts, direction.to(dtype)),
        strict=True,
    ):
        assert one.dtype == other.dtype and torch.allclose(one, other, rtol=near, atol=near)


def test_rms_norm_by_hand_and_against_torch():
    norm = RMSNorm(2, eps=0.0)
    assert torch.allclose(
        norm(torch.tensor([3.0, 4.0])), torch.tensor([3.0, 4.0]) / math.sqrt(12.5)
    )
    x = torch.randn(5, 2)
    assert torch.allclose(norm(x), plain.rms_norm(x, torch.ones(2), eps=0.0), atol=1e-6)
    theirs = torch.nn.RMSNorm(2, eps=1e-5)
    assert torch.allclose(RMSNorm(2)(x), theirs(x), atol=1e-6)


def test_swiglu_by_hand():
    layer = SwiGLU(ModelConfig(d_model=2, n_heads=1, d_ff=1))
    layer.load_state_dict(
        {
            "gate.weight": torch.tensor([[1.0, 0.0]]),
            "up.weight": torch.tensor([[0.0, 1.0]]),
            "down.weight": torch.tensor([[1.0], [2.0]]),
        }
    )
    inner = 2.0 / (1 + math.exp(-2.0)) * 3.0
    assert torch.allclose(layer(torch.tensor([2.0, 3.0])), torch.tensor([inner, 2 * inner]))


def test_the_mask_touches_the_lower_right_corner():
    assert causal_mask(4, 4, "cpu") is None and causal_mask(1, 9, "cpu") is None
    assert causal_mask(2, 4, "cpu").tolist() == [[True, True, True, False], [True] * 4]


def test_a_row_of_a_batch_equals_a_batch_of_one(tiny_model):
    with torch.no_grad():
        together, alone = tiny_model(IDS), tiny_model(IDS[1:])
    assert torch.allclose(together[1], alone[0], atol=1e-5)


def test_too_many_positions_are_refused(tiny_model):
    with pytest.raises(ValueError, match="33 positions; the model has 32"):
        tiny_model(torch.zeros(1, 33, dtype=torch.long))


def test_the_head_is_not_the_embedding(tiny_model):
    assert tiny_model.head.weight.data_ptr() != tiny_model.embedding.weight.data_ptr()


def test_parameters_are_counted_by_hand(tiny_config):
    c, kv, f, v = 32, 16, tiny_config.ff_width, 256
    block = 2 * c + 2 * c * c + 2 * kv * c + 3 * c * f
    assert Transformer(tiny_config).count_parameters() == 2 * v * c + 2 * block + c


def test_weights_come_back_bit_for_bit(tiny_model, tmp_path):
    save_weights(tiny_model, tmp_path)
    again = load_weights(tmp_path)
    assert again.config == tiny_model.config
    assert torch.equal(again(IDS), tiny_model(IDS))


@pytest.mark.parametrize("damage", ["missing", "truncated", "other sizes", "no json"])
def test_broken_weights_are_refused_in_one_line(damage, tiny_model, tmp_path):
    save_weights(tiny_model, tmp_path)
    weights, sizes = tmp_path / "model.safetensors", tmp_path / "model.json"
    if damage == "missing":
        weights.unlink()
    elif damage == "truncated":
        weights.write_bytes(weights.read_bytes()[:-10])
    elif damage == "other sizes":
        sizes.write_text(sizes.read_text().replace('"d_model": 32', '"d_model": 64'))
    else:
        sizes.write_text("{")
    with pytest.raises(UserError, match=str(tmp_path)) as refused:
        load_weights(tmp_path)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"d_model": 100, "n_heads": 3}, "does not divide into n_heads 3: take 99"),
        ({"d_model": 12, "n_heads": 4}, "the number must be even"),
        ({"d_model": 64, "n_heads": 4, "n_kv_heads": 3}, r"take one of \[1, 2, 4\]"),
        ({"n_layers": 0}, "model.n_layers is 0"),
        ({"n_kv_heads": 0}, "model.n_kv_heads is 0"),
    ],
)
def test_impossible_sizes_are_refused_with_what_to_do(fields, message):
    with pytest.raises(UserError, match=message):
        ModelConfig(**fields)


def test_the_script_draws_its_map_and_tells_its_shapes(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(plain, "FIGURE", tmp_path / "figures" / "map.png")
    plain.main()
    shown = capsys.readouterr().out
    assert "(B, H, T, T)  = (1, 4, 22, 22)" in shown
    assert "logits 0 to 11 unchanged True, 12 changed True" in shown
    assert (tmp_path / "figures" / "map.png").read_bytes().startswith(b"\x89PNG")
