"""What an offloaded operation needs to have its products made."""

import enum
import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field

import torch

from ..accelerator import Accelerator
from .quantise import Quantised, fractions, quantised
from .recipe import Recipe

__all__ = ["Making", "Observation", "OffloadState", "Places", "Product", "Site"]


class Product(enum.Enum):
    """A product of an operation: its number among the random draws, and what it multiplies."""

    FORWARD = 0, "input", "weight"
    INPUT_GRADIENT = 1, "output gradient", "weight"
    WEIGHT_GRADIENT = 2, "output gradient", "input"

    def __init__(self, number: int, *operands: str):
        self.number, self.operands = number, operands


@dataclass(frozen=True)
class Observation:
    """An operand that has become INT8, for whoever watches over the numbers.

    Attributes
    ----------
    layer : str
    product : Product
    operand : str
        "input", "weight" or "output gradient".
    x : float32 tensor
    values : int8 tensor of the shape of ``x``
        The high half, if there are two.
    scales : float32 tensor
        Broadcasts to the shape of ``x``.
    """

    layer: str
    product: Product
    operand: str
    x: torch.Tensor
    values: torch.Tensor
    scales: torch.Tensor


@dataclass
class OffloadState:
    """Where the random draws of a model stand.

    They are a function of the seed, the step, the layer, the product, the element and of how often
    the layer has been used within the step; of several processes that train together, also of the rank.

    Parameters
    ----------
    seed : int
    step : int
        Training steps made. Whoever wants to resume a run calls :meth:`advance` after each.
    rank : int
    observer : callable, optional
        Is called with an :class:`Observation` for each operand.
    """

    seed: int
    step: int = 0
    rank: int = 0
    observer: Callable[[Observation], None] | None = None
    uses: dict[int, int] = field(default_factory=dict)

    def advance(self):
        """A training step is complete."""
        self.step += 1
        self.uses.clear()

    def use(self, layer: int) -> tuple[int, int]:
        """The step, and how often that layer has been used in it before."""
        count = self.uses.get(layer, 0)
        self.uses[layer] = count + 1
        return self.step, count

    def state_dict(self) -> dict[str, int]:
        """For a checkpoint between two steps."""
        return {"seed": self.seed, "step": self.step}

    def load_state_dict(self, state: dict[str, int]):
        self.seed, self.step = state["seed"], state["step"]
        self.uses.clear()


class Places:
    """All places of a model, and what the report says of them.

    Parameters
    ----------
    acc : Accelerator
    recipes : callable
        The recipe of a place by its name.
    numbers : dict
        Of the layers that are known beforehand. Places that show up later are numbered by their names.
    """

    def __init__(self, acc: Accelerator, recipes: Callable[[str], Recipe], numbers: dict[str, int],
                 state: OffloadState):
        self.acc, self.recipes, self.numbers, self.state = acc, recipes, numbers, state
        self.sites: dict[str, Site] = {}
        self.offloaded: list[str] = []
        self.host: dict[str, str] = {}

    def site(self, name: str) -> "Site":
        if name not in self.sites:
            number = self.numbers.get(name)
            if number is None:
                number = int.from_bytes(hashlib.sha256(name.encode()).digest()[:7]) | 1 << 56
            self.sites[name] = Site(number, name, self.acc, self.recipes(name), self.state, self)
        return self.sites[name]

    def made(self, name: str):
        """A product of this place has been made on the accelerator."""
        if name not in self.offloaded:
            self.offloaded.append(name)

    def leave(self, name: str, reason: str):
        """This place stays on the host."""
        if name not in self.host:
            self.host[name] = reason
            if name in self.offloaded:
                self.offloaded.remove(name)


@dataclass(frozen=True)
class Site:
    """A place in the model whose products are made on the accelerator.

    Parameters
    ----------
    layer : int
        Its number among the random draws.
    name : str
        For messages.
    places : Places
        Where its neighbours are.
    """

    layer: int
    name: str
    acc: Accelerator
    recipe: Recipe
    state: OffloadState
    places: "Places"

    def __deepcopy__(self, memo):
        """A copy of the model shares the accelerator."""
        return self

    def part(self, name: str) -> "Site":
        """A place within this one."""
        return self.places.site(f"{self.name}.{name}")

    def leave(self, reason: str):
        """This place stays on the host: for the report. Returns NotImplemented."""
        self.places.leave(self.name, reason)
        return NotImplemented

    def use(self) -> tuple[int, int] | None:
        """Begins a use of the place. Evaluation must not move on the draws of the step it interrupts."""
        return self.state.use(self.layer) if torch.is_grad_enabled() else None

    def quantised(self, product: Product, which: int, x: torch.Tensor, dim: "int | tuple[int, ...]",
                  use: tuple[int, int] | None) -> Quantised:
        """An operand of a product, as the recipe wants it.

        Parameters
        ----------
        which : int
            Of ``product.operands``.
        x : float32 tensor
        dim : int or tuple of int
            The axes that are summed over.
        use : (int, int) or None
            What :meth:`use` gave in the forward pass.
        """
        x = x.contiguous()
        operand = getattr(self.recipe, product.name.lower())[which]
        fraction = None
        if operand.rounding == "stochastic":
            step, count = use
            fraction = fractions(x.shape, ((self.state.seed + self.recipe.seed) % 2**64, step),
                                 (count + (self.state.rank << 32), product.number, self.layer))
        result = quantised(x, dim, operand, fraction)
        if self.state.observer is not None:
            self.state.observer(Observation(self.name, product, product.operands[which], x,
                                            torch.from_numpy(result.parts[0][1]), result.scales))
        return result

    def make(self, *makings: "Making | None") -> list[torch.Tensor | None]:
        """Makes them all in one chain; None stays None."""
        products = [product for making in makings if making is not None
                    for terms in making.sums for _, product in terms]
        results = iter(self.acc.run(products))
        return [making if making is None else making.finish(*(
            _total([(factor, next(results)) for factor, _ in terms]) for terms in making.sums))
            for making in makings]


@dataclass(frozen=True)
class Making:
    """A tensor to be made of exact products.

    Attributes
    ----------
    sums : list of lists of (int, product)
        What :meth:`.Accelerator.run` takes, with factors; each list is summed up.
    finish : callable
        From those sums (float32 tensors, not used otherwise) to the result.
    """

    sums: list[list[tuple]]
    finish: Callable[..., torch.Tensor]


def _total(terms: list[tuple]) -> torch.Tensor:
    """The sum of int32 arrays times integers, as float32."""
    if len(terms) == 1 and terms[0][0] == 1:
        return torch.from_numpy(terms[0][1]).to(torch.float32)
    # Of parts of 16 bits, or of a sum too long for INT32.
    return sum(factor * torch.from_numpy(values).to(torch.int64)
               for factor, values in terms).to(torch.float32)
