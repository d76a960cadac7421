"""Heterosynaptic circuits: how feedback settles and aligns, and what can learn."""

HETEROSYNAPTIC: dict[str, str] = {
    "feedback-settling": "heterosynaptic.learning:Settling",
    "consistent-sign": "heterosynaptic.learning:ConsistentSign",
    "wiring-law": "heterosynaptic.wiring:WiringLaw",
    "norm-law": "heterosynaptic.norms:NormLaw",
    "wrong-sign": "heterosynaptic.norms:WrongSign",
    "sliding-threshold": "heterosynaptic.thresholds:SlidingThreshold",
    "metaplasticity": "heterosynaptic.thresholds:Metaplasticity",
    "critical-period": "heterosynaptic.critical_period:CriticalPeriod",
    "evolving-signs": "heterosynaptic.evolution:Evolution",
    "hebbian-fraction": "heterosynaptic.learning:HebbianFraction",
    "amorphous-wiring": "heterosynaptic.wiring:AmorphousWiring",
    "amorphous-learning": "heterosynaptic.wiring:AmorphousLearning",
}
