"""Learning rules: each wires a circuit (dynamics.circuit) that the generic compilers run."""

from rules.behavioural_timescale import BehaviouralTimescale as BehaviouralTimescale
from rules.contract import AbstractRule as AbstractRule
from rules.contract import number as number
from rules.contract import timescale as timescale
from rules.curl import Curl as Curl
from rules.eprop import EProp as EProp
from rules.feedback_alignment import DFA as DFA
from rules.feedback_alignment import FA as FA
from rules.gradient import SGD as SGD
from rules.hebbian import BCM as BCM
from rules.hebbian import AntiHebbian as AntiHebbian
from rules.hebbian import Hebbian as Hebbian
from rules.hebbian import Oja as Oja
from rules.heterosynaptic import Heterosynaptic as Heterosynaptic
from rules.kolen_pollack import KP as KP
from rules.stdp import STDP as STDP
from rules.three_factor import ThreeFactor as ThreeFactor
