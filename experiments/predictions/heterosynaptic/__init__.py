"""Heterosynaptic circuits: how feedback settles and aligns, and what can learn."""

HETEROSYNAPTIC: dict[str, str] = {
    "feedback-settling": "heterosynaptic.settling:Settling",
    "consistent-sign": "heterosynaptic.consistent_sign:ConsistentSign",
    "wiring-law": "heterosynaptic.wiring_law:WiringLaw",
    "norm-law": "heterosynaptic.norm_law:NormLaw",
    "wrong-sign": "heterosynaptic.wrong_sign:WrongSign",
    "sliding-threshold": "heterosynaptic.sliding_threshold:SlidingThreshold",
    "metaplasticity": "heterosynaptic.metaplasticity:Metaplasticity",
    "critical-period": "heterosynaptic.critical_period:CriticalPeriod",
    "evolving-signs": "heterosynaptic.evolution:Evolution",
    "hebbian-fraction": "heterosynaptic.hebbian_fraction:HebbianFraction",
    "amorphous-wiring": "heterosynaptic.amorphous:AmorphousWiring",
    "amorphous-learning": "heterosynaptic.amorphous:AmorphousLearning",
}
