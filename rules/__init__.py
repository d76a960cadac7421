"""Learning rules: each wires a circuit (dynamics.circuit) that the generic compilers run."""

from rules.contract import AbstractRule as AbstractRule
from rules.contract import number as number
from rules.contract import timescale as timescale
from rules.contrastive_hebbian import ContrastiveHebbian as ContrastiveHebbian
from rules.curl import Curl as Curl
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
from rules.weight_mirror import WeightMirror as WeightMirror
from rules.weight_perturbation import WeightPerturbation as WeightPerturbation
