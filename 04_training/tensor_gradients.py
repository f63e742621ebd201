"""The backward pass of three layers by hand: matrix product, RMSNorm, softmax with cross-entropy.

python 04_training/tensor_gradients.py

Each function takes the gradient of what a layer gave and returns that of what it was given.
"""

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

EPS = 1e-5


def matmul_backward(x: Tensor, weight: Tensor, gradient: Tensor) -> tuple[Tensor, Tensor]:
    """Of `x @ weight`: x (T, C), weight (C, F), gradient (T, F) -> gradients (T, C), (C, F).

    Output (t, f) is a sum over c of x[t, c] · weight[c, f]. So x[t, c] is used once for each f,
    with weight[c, f], and those shares add up: a product with the transpose.
    """
    return gradient @ weight.T, x.T @ gradient


def rms_norm(x: Tensor, gain: Tensor) -> tuple[Tensor, Tensor]:
    """x (T, C), gain (C,) -> normed (T, C), and 1 / root mean square, (T, 1), for later."""
    inverse = (x.square().mean(dim=-1, keepdim=True) + EPS).rsqrt()
    return x * inverse * gain, inverse


def rms_norm_backward(
    x: Tensor, gain: Tensor, inverse: Tensor, gradient: Tensor
) -> tuple[Tensor, Tensor]:
    """Gradients of x (T, C) and of the gain (C,).

    A channel acts on its own output, and through the root mean square on all C of them:
    the larger it is, the smaller it makes the others.
    """
    normed = x * inverse  # (T, C)
    direct = gradient * gain
    through_all = (direct * normed).mean(dim=-1, keepdim=True)  # (T, 1)
    return inverse * (direct - normed * through_all), (gradient * normed).sum(dim=0)


def softmax_cross_entropy(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """logits (T, V), targets (T,) -> the mean loss, and the probabilities (T, V) for later."""
    shifted = logits - logits.amax(dim=-1, keepdim=True)
    probabilities = shifted.exp() / shifted.exp().sum(dim=-1, keepdim=True)
    picked = probabilities.gather(1, targets[:, None])  # (T, 1)
    return -picked.log().mean(), probabilities


def softmax_cross_entropy_backward(probabilities: Tensor, targets: Tensor) -> Tensor:
    """Gradient of the logits, (T, V): what was said, minus 1 where it should have been said."""
    gradient = probabilities.clone()
    gradient[torch.arange(len(targets)), targets] -= 1
    return gradient / len(targets)


def by_hand(
    x: Tensor, gain: Tensor, head: Tensor, targets: Tensor
) -> tuple[Tensor, dict[str, Tensor]]:
    """The end of a language model, norm and head: its loss and all gradients, no autograd."""
    normed, inverse = rms_norm(x, gain)  # (T, C)
    loss, probabilities = softmax_cross_entropy(normed @ head, targets)
    of_logits = softmax_cross_entropy_backward(probabilities, targets)  # (T, V)
    of_normed, of_head = matmul_backward(normed, head, of_logits)
    of_x, of_gain = rms_norm_backward(x, gain, inverse, of_normed)
    return loss, {"x": of_x, "gain": of_gain, "head": of_head}


def by_autograd(
    x: Tensor, gain: Tensor, head: Tensor, targets: Tensor
) -> tuple[Tensor, dict[str, Tensor]]:
    """The same with PyTorch: only the forward pass is written."""
    leaves = {
        name: t.clone().requires_grad_() for name, t in (("x", x), ("gain", gain), ("head", head))
    }
    normed, _ = rms_norm(leaves["x"], leaves["gain"])
    loss = cross_entropy(normed @ leaves["head"], targets)
    loss.backward()
    return loss.detach(), {name: leaf.grad for name, leaf in leaves.items()}


def main() -> None:
    """Both ways side by side, with shapes."""
    generator = torch.Generator().manual_seed(0)
    positions, channels, vocabulary = 6, 8, 10
    x = torch.randn(positions, channels, generator=generator)
    gain = torch.rand(channels, generator=generator) + 0.5
    head = torch.randn(channels, vocabulary, generator=generator) / channels**0.5
    targets = torch.randint(vocabulary, (positions,), generator=generator)
    ours, theirs = (way(x, gain, head, targets) for way in (by_hand, by_autograd))
    print(f"loss by hand {ours[0]:.6f}, by PyTorch {theirs[0]:.6f}")
    for name, gradient in ours[1].items():
        shape, apart = str(tuple(gradient.shape)), (gradient - theirs[1][name]).abs().max()
        print(f"gradient of {name:4}  {shape:8}  largest difference {apart:.0e}")
    print("Three layers took three formulas. A model has hundreds: from here on, loss.backward().")


if __name__ == "__main__":
    main()
