"""Train a network of your own with every matrix product on the accelerator.

    python examples/offload_your_model.py [--steps 60] [--backend verilator]
"""

import argparse

import torch
from sklearn.datasets import load_digits
from threadpoolctl import threadpool_limits
from torch import nn
from torch.nn import functional as F

import backbeat
from backbeat.torch import offload


class Network(nn.Module):
    """A convolution makes tokens of an image, attention mixes them, a layer says which digit it is.

    Ordinary PyTorch: nothing here knows about the accelerator.
    """

    def __init__(self):
        super().__init__()
        self.convolution = nn.Conv2d(1, 32, 3, stride=2, padding=1)
        self.norm = nn.LayerNorm(32)
        self.attention = nn.MultiheadAttention(32, num_heads=2, batch_first=True)
        self.head = nn.Linear(16 * 32, 10)

    def forward(self, images):
        """[N, 1, 8, 8] to [N, 10]."""
        tokens = self.convolution(images).relu().flatten(2).transpose(1, 2)     # [N, 16, 32]
        x = self.norm(tokens)
        mixed, _ = self.attention(x, x, x, need_weights=False)
        return self.head((tokens + mixed).flatten(1))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backend", default="model", help="model, or verilator: the RTL, with cycles")
    parser.add_argument("--config", default="16x16")
    parser.add_argument("--steps", type=int, default=60)
    arguments = parser.parse_args()
    threadpool_limits(1)        # of products as small as these, several threads only wait for each other

    images, labels = load_digits(return_X_y=True)
    x = torch.tensor(images, dtype=torch.float32).view(-1, 1, 8, 8) / 8 - 1
    y = torch.tensor(labels)
    train, test = slice(0, 1500), slice(1500, None)

    torch.manual_seed(0)
    network = Network()
    optimiser = torch.optim.AdamW(network.parameters(), lr=3e-3)
    with backbeat.open(arguments.backend, arguments.config) as acc:
        report = offload(network, acc, recipe="int8")       # the only line that is new
        for step in range(1, arguments.steps + 1):
            i = torch.randint(len(x[train]), (64,))
            optimiser.zero_grad()
            loss = F.cross_entropy(network(x[train][i]), y[train][i])
            loss.backward()
            optimiser.step()
            report.state.advance()                          # other random roundings in the next step
            if step % 10 == 0:
                print(f"step {step:3}  loss {loss.item():.3f}")
        with torch.no_grad():
            right = network(x[test]).argmax(1) == y[test]
        stats = acc.stats

    print(f"\n{report}\n")       # after the run: products within modules are seen when they run
    print(f"{stats.products:,} products, {stats.macs / 1e6:,.1f} M MACs, largest sum {stats.max_abs:,}")
    if stats.cycles:
        print(f"{stats.cycles:,} cycles, utilisation {stats.utilisation:.0%}")
    print(f"test accuracy {right.double().mean():.1%}")


if __name__ == "__main__":
    main()
