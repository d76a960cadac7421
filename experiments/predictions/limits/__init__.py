"""Limits of the engine and of learning: delays, lazy training, solvers, and which rules have a plasticity window."""

LIMITS = {
    "delayed-gradient": "limits.delayed_gradient:DelayedGradient",
    "lag-chains": "limits.lag_chains:LagChains",
    "late-errors": "limits.late_errors:LateErrors",
    "delayed-updates": "limits.delayed_updates:DelayedUpdates",
    "delayed-kuramoto": "limits.delayed_kuramoto:DelayedKuramoto",
    "delayed-noise": "limits.delayed_noise:DelayedNoise",
    "lazy-limit": "limits.lazy_limit:LazyLimit",
    "lyapunov-known": "limits.lyapunov_known:LyapunovKnown",
    "ltc-solver": "limits.ltc_solver:LTCSolver",
    "probability-flow": "limits.probability_flow:ProbabilityFlow",
    "weak-order": "limits.weak_order:WeakOrder",
    "feature-energy": "limits.feature_energy:FeatureEnergy",
    "spherical-langevin": "limits.spherical_langevin:SphericalLangevin",
    "oja-temperature": "limits.oja_temperature:OjaTemperature",
    "plasticity-families": "limits.plasticity_families:PlasticityFamilies",
}
