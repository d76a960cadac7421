"""The engine: circuits of layers and projections, and the compilers that make differential equations of them."""

from dynamics.circuit import Circuit as Circuit
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
from dynamics.simulate import Recording as Recording
from dynamics.simulate import simulate as simulate
from dynamics.stimulus import Clock as Clock
from dynamics.stimulus import Stream as Stream
from dynamics.timescales import Timescales as Timescales
