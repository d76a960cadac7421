"""Plasticode: learning rules in continuous time.

    import plasticode

    data = plasticode.run(plasticode.load_spec("my-sweep.toml")).datasets[""]   # in memory
    data = plasticode.open("results/my-sweep")                                  # what `plasticode run` has written

Circuits (`Circuit`, `Layer`, `Projection`, `TwoFactor`, ...), rules that wire them (`FA`, `Oja`, ...), the regimes
that run them (`Coupled`, `WeightFlow`, `Discrete`, through `simulate`), and the experiments of specs. Each name has
its own documentation; all are imported when they are first used.
"""

import ast
import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # the list of all public names: for type checkers, and read by `_places` below
    from dynamics import instruments as instruments
    from dynamics import theory as theory
    from dynamics.activations import Activation as Activation
    from dynamics.circuit import AbstractFactor as AbstractFactor
    from dynamics.circuit import AbstractMap as AbstractMap
    from dynamics.circuit import Activity as Activity
    from dynamics.circuit import Circuit as Circuit
    from dynamics.circuit import Constant as Constant
    from dynamics.circuit import Convolution as Convolution
    from dynamics.circuit import Dense as Dense
    from dynamics.circuit import Draw as Draw
    from dynamics.circuit import Error as Error
    from dynamics.circuit import Gaussian as Gaussian
    from dynamics.circuit import Given as Given
    from dynamics.circuit import Input as Input
    from dynamics.circuit import Layer as Layer
    from dynamics.circuit import Local as Local
    from dynamics.circuit import Masked as Masked
    from dynamics.circuit import Multiplicative as Multiplicative
    from dynamics.circuit import Negative as Negative
    from dynamics.circuit import OneToOne as OneToOne
    from dynamics.circuit import Outer as Outer
    from dynamics.circuit import Projection as Projection
    from dynamics.circuit import Prospective as Prospective
    from dynamics.circuit import Redrawn as Redrawn
    from dynamics.circuit import Scaled as Scaled
    from dynamics.circuit import Shared as Shared
    from dynamics.circuit import Signed as Signed
    from dynamics.circuit import Times as Times
    from dynamics.circuit import Trace as Trace
    from dynamics.circuit import TwoFactor as TwoFactor
    from dynamics.circuit import Value as Value
    from dynamics.circuit import Variable as Variable
    from dynamics.circuit import Wave as Wave
    from dynamics.coupled import Coupled as Coupled
    from dynamics.delays import Delays as Delays
    from dynamics.discrete import Discrete as Discrete
    from dynamics.errors import NotOkWarning as NotOkWarning
    from dynamics.errors import PlasticodeError as PlasticodeError
    from dynamics.flow import WeightFlow as WeightFlow
    from dynamics.integrators import Adaptive as Adaptive
    from dynamics.integrators import FixedStep as FixedStep
    from dynamics.integrators.window import Window as Window
    from dynamics.network import Network as Network
    from dynamics.noise import Noise as Noise
    from dynamics.sequences import responses as responses
    from dynamics.simulate import Recording as Recording
    from dynamics.simulate import simulate as simulate
    from dynamics.stimulus import Clock as Clock
    from dynamics.stimulus import Stream as Stream
    from dynamics.timescales import Timescales as Timescales
    from experiments.execution.runner import configure as configure
    from experiments.execution.runner import run as run
    from experiments.results.netcdf import open_results as open  # noqa: F401
    from experiments.spec.loading import load_spec as load_spec
    from experiments.spec.loading import make_spec as make_spec
    from experiments.spec.probes import Probe as Probe
    from experiments.tasks.contract import AbstractTask as AbstractTask
    from experiments.tasks.contract import Data as Data
    from rules.behavioural_timescale import BehaviouralTimescale as BehaviouralTimescale
    from rules.contract import AbstractRule as AbstractRule
    from rules.contract import number as number
    from rules.contract import timescale as timescale
    from rules.contrastive_hebbian import ContrastiveHebbian as ContrastiveHebbian
    from rules.curl import Curl as Curl
    from rules.eprop import EProp as EProp
    from rules.equilibrium_propagation import EquilibriumPropagation as EquilibriumPropagation
    from rules.equilibrium_propagation import OscillatingEP as OscillatingEP
    from rules.exponentiated import Exponentiated as Exponentiated
    from rules.feedback_alignment import DFA as DFA
    from rules.feedback_alignment import FA as FA
    from rules.gradient import SGD as SGD
    from rules.hebbian import BCM as BCM
    from rules.hebbian import AntiHebbian as AntiHebbian
    from rules.hebbian import Hebbian as Hebbian
    from rules.hebbian import Oja as Oja
    from rules.heterosynaptic import Heterosynaptic as Heterosynaptic
    from rules.knowledge_accumulation import SKA as SKA
    from rules.kolen_pollack import KP as KP
    from rules.momentum import Momentum as Momentum
    from rules.node_perturbation import NodePerturbation as NodePerturbation
    from rules.predictive_coding import PredictiveCoding as PredictiveCoding
    from rules.replicas import Replicas as Replicas
    from rules.stdp import STDP as STDP
    from rules.three_factor import ThreeFactor as ThreeFactor
    from rules.weight_mirror import WeightMirror as WeightMirror
    from rules.weight_perturbation import WeightPerturbation as WeightPerturbation


def _places() -> dict[str, tuple[str, str]]:
    """Where each public name comes from, and what it is called there."""
    (listed,) = (
        node for node in ast.parse(Path(__file__).read_text(encoding="utf-8")).body if isinstance(node, ast.If)
    )
    imports = (node for node in listed.body if isinstance(node, ast.ImportFrom))
    return {alias.asname or alias.name: (node.module or "", alias.name) for node in imports for alias in node.names}


_PLACES = _places()
__all__ = sorted([*_PLACES, "__version__"])  # pyright: ignore[reportUnsupportedDunderAll] - made at the first use


def __getattr__(name: str) -> Any:
    """Imports a public name at its first use."""
    if name == "__version__":
        from experiments.machine.versions import version_of

        value: Any = version_of("plasticode")
    elif name in _PLACES:
        module, inner = _PLACES[name]
        found = importlib.import_module(module)
        value = getattr(found, inner) if hasattr(found, inner) else importlib.import_module(f"{module}.{inner}")
    else:
        raise AttributeError(f"module 'plasticode' has no attribute '{name}'")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
