"""How a run gets from one presentation to the next: the contract is in `contract`, the list in `registry`."""

from dynamics.integrators.adaptive import Adaptive as Adaptive
from dynamics.integrators.fixed_step import FixedStep as FixedStep
from dynamics.integrators.window import Window as Window
