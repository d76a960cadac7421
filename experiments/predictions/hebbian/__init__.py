"""Emergent Hebbian learning: what weight decay and noise make of any learning rule."""

HEBBIAN: dict[str, str] = {
    "hebbian-stationary": "hebbian.at_rest:HebbianStationary",
    "hebbian-phase-diagram": "hebbian.phase_diagram:HebbianPhaseDiagram",
    "hebbian-decay-trend": "hebbian.decay_trend:HebbianDecayTrend",
    "hebbian-batch-size": "hebbian.batch_size:HebbianBatchSize",
    "hebbian-bridge": "hebbian.bridge:HebbianBridge",
    "hebbian-adam": "hebbian.decay_trend:HebbianAdam",
    "hebbian-sparsity": "hebbian.sparsity:HebbianSparsity",
    "hebbian-synaptic-noise": "hebbian.at_rest:HebbianSynapticNoise",
}
