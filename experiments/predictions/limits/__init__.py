"""Limits of the engine and of learning: delays, lazy training, solvers, and which rules have a plasticity window."""

LIMITS = {
    "delayed-gradient": "limits.old_gradients:DelayedGradient",
    "lag-chains": "limits.old_gradients:LagChains",
    "late-errors": "limits.late_feedback:LateErrors",
    "delayed-updates": "limits.old_gradients:DelayedUpdates",
    "delayed-kuramoto": "limits.delayed_kuramoto:DelayedKuramoto",
    "delayed-noise": "limits.late_feedback:DelayedNoise",
    "lazy-limit": "limits.lazy_limit:LazyLimit",
    "lyapunov-known": "limits.known:LyapunovKnown",
    "ltc-solver": "limits.known:LTCSolver",
    "probability-flow": "limits.noise:ProbabilityFlow",
    "weak-order": "limits.noise:WeakOrder",
    "feature-energy": "limits.feature_energy:FeatureEnergy",
    "spherical-langevin": "limits.spherical_langevin:SphericalLangevin",
    "oja-temperature": "limits.oja_temperature:OjaTemperature",
    "plasticity-families": "limits.plasticity_families:PlasticityFamilies",
}
