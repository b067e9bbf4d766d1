"""The networks that are known by name, and what has been published of them."""

from collections.abc import Callable
from dataclasses import dataclass

from . import benched, convolutional, ours, transformers
from .benched import WORKLOADS
from .layers import Layer, Workload, WorkloadError

__all__ = ["NETWORKS", "Network", "Published"]

_SZE = "Sze, Chen, Yang, Emer: Efficient Processing of Deep Neural Networks, 2020"
_COURSE = "MIT 6.5930, course material"
_TORCHVISION = "torchvision's documentation"
_PAPER = "its paper"


@dataclass(frozen=True)
class Published:
    """Figures of others: parameters, and multiply-accumulates of a forward pass of one sample.

    docs/workloads.md says where ours differ, and why.
    """

    weights: float
    macs: float
    source: str


@dataclass(frozen=True)
class Network:
    """A network that can be made at any batch.

    Attributes
    ----------
    title : str
    make : callable
        Its layers, from a batch and, if ``tokens`` is given, a number of tokens.
    tokens : int, optional
        Of a sequence, if nothing else is asked for; None where there are none.
    published : Published, optional
    batch : int
        If nothing else is asked for.
    """

    title: str
    make: Callable[..., tuple[Layer, ...]]
    tokens: int | None = None
    published: Published | None = None
    batch: int = 1

    def at(self, batch: int | None = None, tokens: int | None = None) -> Workload:
        """
        Raises
        ------
        WorkloadError
            ``tokens`` of something without them, or too many.
        """
        if tokens is not None and self.tokens is None:
            raise WorkloadError(f"{self.title} has no tokens, got tokens={tokens}")
        batch, sizes = batch or self.batch, [f"batch {batch or self.batch}"]
        arguments = [batch]
        if self.tokens is not None:
            arguments.append(tokens or self.tokens)
            sizes.append(f"{arguments[-1]} tokens")
        return Workload(f"{self.title}, {', '.join(sizes)}", self.make(*arguments), batch)


#: By name.
NETWORKS: dict[str, Network] = {
    "lenet5": Network("LeNet-5", convolutional.lenet5, published=Published(60e3, 341e3, _PAPER)),
    "alexnet": Network("AlexNet", convolutional.alexnet, published=Published(61e6, 724e6, _SZE)),
    "vgg16": Network("VGG-16", convolutional.vgg16, published=Published(138e6, 15.5e9, _SZE)),
    "googlenet": Network("GoogLeNet v1", convolutional.googlenet,
                         published=Published(7e6, 1.43e9, _SZE)),
    "resnet50": Network("ResNet-50", convolutional.resnet50, published=Published(25.5e6, 3.9e9, _SZE)),
    "squeezenet": Network("SqueezeNet 1.0", convolutional.squeezenet,
                          published=Published(1.248e6, 0.82e9, _TORCHVISION)),
    "mobilenet-v2": Network("MobileNetV2", convolutional.mobilenet_v2,
                            published=Published(3.4e6, 300e6, _PAPER)),
    "bert-base": Network("BERT-Base", transformers.BERT_BASE, 512, Published(110e6, 53e9, _COURSE)),
    "bert-large": Network("BERT-Large", transformers.BERT_LARGE, 512, Published(340e6, 131e9, _COURSE)),
    "llama-7b": Network("LLaMA-7B", transformers.LLAMA_7B, 2048, Published(6.7e9, 12.8e12, _COURSE)),
    "gpt-3": Network("GPT-3", transformers.GPT3, 2048, Published(175e9, 397e12, _COURSE)),
    **{task: Network(f"{task} of backbeat train", ours.layers_of(task), tokens)
       for task, tokens in ours.TASKS.items()},
    "mlp": Network("MLP 784-512-512-10", lambda batch: benched.mlp(batch).layers,
                   batch=WORKLOADS["mlp"].batch),
    "resnet18": Network("ResNet-18, distinct convolutions from 56x56 down",
                        lambda batch: benched.resnet18(batch).layers, batch=WORKLOADS["resnet18"].batch),
    "transformer": Network("Transformer block of width 256",
                           lambda batch, tokens: benched.transformer(batch, tokens).layers, 256),
}
