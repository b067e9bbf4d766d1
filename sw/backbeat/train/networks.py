"""The networks of the tasks: small, plain PyTorch, with their initial weights."""

import torch
from torch import nn
from torch.nn import functional as F

__all__ = ["Gpt", "Vit", "cnn", "deep_cured", "deep_sigmoid", "mlp"]

#: Standard deviation of a transformer's initial weights, as in GPT-2.
DEVIATION = 0.02


def _initialised(network: nn.Sequential) -> nn.Sequential:
    """He's initialisation before a ReLU, Xavier's for the last layer; biases start at zero."""
    layers = [m for m in network.modules() if isinstance(m, nn.Linear | nn.Conv2d)]
    for layer in layers:
        if layer is layers[-1]:
            nn.init.xavier_normal_(layer.weight)
        else:
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
    return network


def mlp(*sizes: int) -> nn.Sequential:
    """Linear layers of these widths with ReLUs between them."""
    layers = [nn.Flatten()]
    for inputs, outputs in zip(sizes, sizes[1:], strict=False):
        layers += [nn.Linear(inputs, outputs), nn.ReLU()]
    return _initialised(nn.Sequential(*layers[:-1]))


def _convolution(inputs: int, outputs: int) -> list[nn.Module]:
    """Halves the image. The convolution needs no bias, the normalisation has one."""
    return [nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(),
            nn.MaxPool2d(2)]


def cnn(size: int, *channels: int) -> nn.Sequential:
    """Ten classes of grey images of ``size`` x ``size``, by one convolution for each of ``channels``."""
    blocks = [layer for pair in zip((1, *channels), channels, strict=False)
              for layer in _convolution(*pair)]
    features = channels[-1] * (size >> len(channels))**2
    return _initialised(nn.Sequential(*blocks, nn.Flatten(), nn.Dropout(0.25), nn.Linear(features, 10)))


def deep_sigmoid(depth: int = 24, width: int = 32) -> nn.Sequential:
    """Does not learn: each sigmoid makes the gradient at least four times smaller.

    Xavier's initialisation, as was usual with sigmoids.
    """
    layers, inputs = [nn.Flatten()], 64
    for _ in range(depth - 1):
        layers += [nn.Linear(inputs, width), nn.Sigmoid()]
        inputs = width
    network = nn.Sequential(*layers, nn.Linear(width, 10))
    for module in network:
        if isinstance(module, nn.Linear):
            nn.init.xavier_normal_(module.weight)
            nn.init.zeros_(module.bias)
    return network


class Step(nn.Module):
    """A layer that changes what it is given instead of replacing it."""

    def __init__(self, width: int):
        super().__init__()
        self.norm, self.linear = nn.BatchNorm1d(width), nn.Linear(width, width)

    def forward(self, x):
        return x + self.linear(F.relu(self.norm(x)))


def deep_cured(depth: int = 24, width: int = 32) -> nn.Sequential:
    """As deep, and learns: ReLUs with He's initialisation, normalisation, and a way past each layer."""
    return _initialised(nn.Sequential(nn.Flatten(), nn.Linear(64, width),
                                      *(Step(width) for _ in range(depth - 2)),
                                      nn.BatchNorm1d(width), nn.ReLU(), nn.Linear(width, 10)))


class Attention(nn.Module):
    """Of several heads, from [B, T, D] to [B, T, D]; a causal one looks back only."""

    def __init__(self, width: int, heads: int, causal: bool):
        super().__init__()
        self.heads, self.causal = heads, causal
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x):
        b, t, d = x.shape
        q, k, v = self.qkv(x).view(b, t, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=self.causal)
        return self.out(y.transpose(1, 2).reshape(b, t, d))


class Block(nn.Module):
    """A transformer's: attention, then two layers with a GELU, each normalised and added on."""

    def __init__(self, width: int, heads: int, causal: bool, inner: int):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = Attention(width, heads, causal)
        self.mlp = nn.Sequential(nn.Linear(width, inner), nn.GELU(), nn.Linear(inner, width))

    def forward(self, x):
        x = x + self.attention(self.norm1(x))
        return x + self.mlp(self.norm2(x))


def _transformer_weights(network: nn.Module, blocks: int):
    """GPT-2's initialisation: what is added to the residual starts smaller the more of it there is."""
    for name, parameter in network.named_parameters():
        if name.endswith(("out.weight", "mlp.2.weight")):
            nn.init.normal_(parameter, std=DEVIATION / (2 * blocks)**0.5)
        elif parameter.dim() > 1:
            nn.init.normal_(parameter, std=DEVIATION)
        elif name.endswith("bias"):
            nn.init.zeros_(parameter)


class Vit(nn.Module):
    """A vision transformer: ten classes of grey images, cut into square patches.

    Parameters
    ----------
    size, patch : int
        Pixels of an image's side and of a patch's.
    width, heads, blocks : int
    """

    def __init__(self, size: int = 8, patch: int = 2, width: int = 64, heads: int = 4, blocks: int = 2):
        super().__init__()
        self.patch = patch
        self.embed = nn.Linear(patch**2, width)
        self.position = nn.Parameter(torch.zeros((size // patch)**2, width))
        self.blocks = nn.Sequential(*(Block(width, heads, False, 2 * width) for _ in range(blocks)))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, 10)
        _transformer_weights(self, blocks)
        # Few inputs: larger weights, so that what a patch shows and where it is are of one size.
        nn.init.xavier_normal_(self.embed.weight)
        nn.init.normal_(self.position, std=0.3)

    def forward(self, x):
        """[N, 1, H, W] to [N, 10]."""
        patches = F.unfold(x, self.patch, stride=self.patch).transpose(1, 2)
        tokens = self.blocks(self.embed(patches) + self.position)
        return self.head(self.norm(tokens).mean(1))


class Gpt(nn.Module):
    """A language model of single characters, decoder only.

    Parameters
    ----------
    vocabulary, context : int
        Different tokens, and how many of them it can look back on.
    width, heads, blocks : int
    """

    def __init__(self, vocabulary: int = 256, context: int = 64, width: int = 128, heads: int = 4,
                 blocks: int = 2):
        super().__init__()
        self.tokens = nn.Embedding(vocabulary, width)
        self.position = nn.Parameter(torch.zeros(context, width))
        self.blocks = nn.Sequential(*(Block(width, heads, True, 4 * width) for _ in range(blocks)))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, vocabulary, bias=False)
        _transformer_weights(self, blocks)

    def forward(self, x):
        """int64 [N, T] to logits [N, T, V]; T up to ``context``."""
        y = self.tokens(x) + self.position[:x.shape[1]]
        return self.head(self.norm(self.blocks(y)))
