"""Well-known transformers, at any batch and sequence length.

MACs of a sequence of L tokens, of blocks of width D with H heads of D / H, and F the width between the
layers that follow attention:

    blocks (4 D^2 L + 2 L^2 D + j D F L) + what comes after the blocks

4 D^2: the projections of Q, K, V and O. 2 L^2 D: Q K^T and P V of all heads, full squares, whether
causal or not. j: the matrices of the part after it, 2, or 3 where one of them is a gate. Embeddings,
softmax and normalisations have no products. After the blocks comes a head, D V L for V entries of the
vocabulary, or a pooler, D^2.
"""

from dataclasses import dataclass

from .layers import Attention, Embedding, Layer, Linear, Other, WorkloadError

__all__ = ["BERT_BASE", "BERT_LARGE", "GPT3", "LLAMA_7B", "Transformer"]


@dataclass(frozen=True)
class Transformer:
    """A stack of equal blocks; called with a batch and a number of tokens, it gives its layers.

    Attributes
    ----------
    vocabulary, blocks, width, heads, hidden : int
        ``hidden`` is F above.
    positions : int
        Size of the table of positions, the longest sequence; 0: there is none (rotary).
    norm_weights : int
        Parameters of a normalisation per channel: 2, or 1 without a shift.
    bias : bool
        Linear layers have one, but for the head.
    gated : bool
        F(x W1) * (x W3) instead of F(x W1).
    segments : int
        Rows of a further embedding.
    encoder : bool
        As BERT: embeddings are normalised and what attention and FFN give, not what they are given, and
        at the end is a layer of the first token (pooler) instead of a head for each.
    tied : bool
        The head's matrix is that of the embedding.
    """

    vocabulary: int
    blocks: int
    width: int
    heads: int
    hidden: int
    positions: int = 0
    norm_weights: int = 2
    bias: bool = True
    gated: bool = False
    segments: int = 0
    encoder: bool = False
    tied: bool = False

    def __call__(self, batch: int, tokens: int) -> tuple[Layer, ...]:
        """
        Raises
        ------
        WorkloadError
            The sequence is longer than the table of positions.
        """
        if self.positions and tokens > self.positions:
            raise WorkloadError(f"tokens must be at most {self.positions}, the positions that it has "
                                f"learned, got {tokens}")
        rows, d = batch * tokens, self.width

        def linear(name, inputs, outputs):
            return Linear(name, rows, inputs, outputs, bias=self.bias, repeat=self.blocks)

        def norm(name, repeat=1):
            return Other(name, "normalisation", rows * d, rows * d, self.norm_weights * d, repeat)

        tables = (("tokens", self.vocabulary), ("positions", self.positions),
                  ("segments", self.segments))
        layers = [Embedding(name, rows, entries, d) for name, entries in tables if entries]
        norms = [norm("norm 1", self.blocks), norm("norm 2", self.blocks)]
        attention = [*(linear(f"projection {name}", d, d) for name in "QKV"),
                     Attention("attention", self.heads, tokens, d // self.heads, batch=batch,
                               repeat=self.blocks),
                     linear("projection O", d, d)]
        ffn = [*([linear("FFN gate", d, self.hidden)] if self.gated else []),
               linear("FFN up", d, self.hidden), linear("FFN down", self.hidden, d)]
        if self.encoder:
            return (*layers, norm("norm of embeddings"), *attention, norms[0], *ffn, norms[1],
                    Linear("pooler", batch, d, d, bias=self.bias))
        layers += [norms[0], *attention, norms[1], *ffn]
        return *layers, norm("norm"), Linear("head", rows, d, self.vocabulary, tied=self.tied)


#: Devlin et al., BERT, 2018. Without the heads of its pretraining.
BERT_BASE = Transformer(30_522, blocks=12, width=768, heads=12, hidden=3072, positions=512, segments=2,
                        encoder=True)
BERT_LARGE = Transformer(30_522, blocks=24, width=1024, heads=16, hidden=4096, positions=512, segments=2,
                         encoder=True)
#: Brown et al., Language Models are Few-Shot Learners, 2020, the largest. Every second block's attention
#: is "locally banded sparse" there; here all are full.
GPT3 = Transformer(50_257, blocks=96, width=12_288, heads=96, hidden=49_152, positions=2048, tied=True)
#: Touvron et al., LLaMA, 2023, the smallest.
LLAMA_7B = Transformer(32_000, blocks=32, width=4096, heads=32, hidden=11_008, norm_weights=1,
                       bias=False, gated=True)
