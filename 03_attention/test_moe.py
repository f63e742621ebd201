"""Mixture of experts: equal to the dense layer, to a plain loop, and nothing is dropped."""

import math

import pytest
import torch

from shared.model.config import ModelConfig, MoEConfig
from shared.model.feedforward import SwiGLU
from shared.model.moe import MixtureOfExperts, Routing, auxiliary_loss, router_losses
from shared.model.transformer import Transformer

CONFIG = ModelConfig(d_model=16, n_heads=2, d_ff=24, moe=MoEConfig(n_experts=5, top_k=2))


@pytest.fixture
def layer() -> MixtureOfExperts:
    torch.manual_seed(0)
    layer = MixtureOfExperts(CONFIG)
    torch.nn.init.normal_(layer.router.weight)
    return layer


def test_equal_experts_are_the_dense_layer(layer):
    dense = SwiGLU(CONFIG)
    for expert in layer.experts:
        expert.load_state_dict(dense.state_dict())
    x = torch.randn(3, 7, 16)
    assert torch.allclose(layer(x), dense(x), atol=1e-6)


def test_groups_equal_a_loop_over_positions_and_pass_the_same_gradients(layer):
    x = torch.randn(2, 9, 16, requires_grad=True)
    rows = []
    for vector in x.flatten(0, 1):
        scores, chosen = layer.router(vector).topk(2)
        weights = scores.softmax(-1)
        rows.append(sum(w * layer.experts[e](vector) for w, e in zip(weights, chosen, strict=True)))
    looped = torch.stack(rows).view(2, 9, 16)
    grouped = layer(x)
    assert torch.allclose(grouped, looped, atol=1e-6)
    of = [x, *layer.parameters()]
    for ours, theirs in zip(
        torch.autograd.grad(grouped.square().sum(), of),
        torch.autograd.grad(looped.square().sum(), of),
        strict=True,
    ):
        assert torch.allclose(ours, theirs, atol=1e-5)


def test_no_position_is_dropped_even_when_all_want_one_expert(layer):
    with torch.no_grad():
        layer.router.weight.zero_()
        layer.router.weight[3] = 10.0
    x = torch.rand(2, 9, 16) + 0.1  # every router score of expert 3 is large
    assert (layer.route(x.flatten(0, 1)).chosen[:, 0] == 3).all()
    assert torch.allclose(layer(x), layer.experts[3](x), atol=1e-4)


def test_an_expert_that_nobody_chose_has_zero_gradients_not_none(layer):
    with torch.no_grad():
        layer.router.weight.zero_()
        layer.router.weight[0], layer.router.weight[1] = 10.0, 9.0
    layer(torch.rand(1, 4, 16) + 0.1).sum().backward()
    assert not layer.experts[4].up.weight.grad.any()
    assert layer.experts[0].up.weight.grad.any()


def test_the_balance_loss_is_one_when_even_and_e_when_one_expert_takes_all():
    even = Routing(torch.zeros(8, 4), torch.arange(8).view(8, 1) % 4)
    one = Routing(torch.tensor([[50.0, 0, 0, 0]]).expand(8, 4), torch.zeros(8, 1, dtype=torch.long))
    assert router_losses(even)[0].item() == pytest.approx(1.0)
    assert router_losses(one)[0].item() == pytest.approx(4.0)


def test_the_z_loss_by_hand():
    routing = Routing(torch.tensor([[0.0, 0.0], [math.log(3), 0.0]]), torch.zeros(2, 1).long())
    expected = (math.log(2) ** 2 + math.log(4) ** 2) / 2
    assert router_losses(routing)[1].item() == pytest.approx(expected)


def test_following_the_balance_loss_evens_out_the_experts():
    torch.manual_seed(0)
    layer = MixtureOfExperts(CONFIG)
    with torch.no_grad():
        layer.router.weight[0] += 1.0  # nearly everything goes to the first expert
    x = torch.randn(1, 200, 16) + 0.5
    optimizer = torch.optim.Adam(layer.router.parameters(), lr=0.02)
    shares = []
    for _ in range(150):
        layer(x)
        shares.append(layer.routing.chosen.flatten().bincount(minlength=5).max().item() / 400)
        optimizer.zero_grad()
        router_losses(layer.routing)[0].backward()
        optimizer.step()
    assert shares[0] > 0.4 and shares[-1] < 0.3


def test_the_auxiliary_loss_is_the_mean_over_layers_and_zero_without_experts():
    torch.manual_seed(0)
    model = Transformer(ModelConfig(n_layers=2, d_model=16, n_heads=2, moe=CONFIG.moe)).train()
    model(torch.randint(256, (2, 8)))
    by_hand = 0.0
    for block in model.blocks:
        balance, z = router_losses(block.feedforward.routing)
        by_hand += (0.01 * balance + 0.001 * z) / 2
    assert auxiliary_loss(model).item() == pytest.approx(by_hand.item())
    dense = Transformer(ModelConfig(n_layers=1, d_model=16, n_heads=2)).train()
    assert auxiliary_loss(dense) == 0.0


def test_routing_is_the_same_under_bfloat16_for_equal_inputs(layer):
    """The router works in float32 whatever autocast says."""
    x = torch.randn(4, 16)
    with torch.autocast("cpu", torch.bfloat16):
        routing = layer.route(x)
    assert routing.logits.dtype is torch.float32
    assert torch.equal(routing.logits, layer.route(x).logits)
