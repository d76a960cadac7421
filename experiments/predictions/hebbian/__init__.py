"""Emergent Hebbian learning: what weight decay and noise make of any learning rule."""

HEBBIAN: dict[str, str] = {
    "hebbian-stationary": "hebbian.stationary:HebbianStationary",
    "hebbian-phase-diagram": "hebbian.phase_diagram:HebbianPhaseDiagram",
    "hebbian-decay-trend": "hebbian.decay_trend:HebbianDecayTrend",
    "hebbian-batch-size": "hebbian.batch_size:HebbianBatchSize",
    "hebbian-bridge": "hebbian.bridge:HebbianBridge",
    "hebbian-adam": "hebbian.adam:HebbianAdam",
    "hebbian-sparsity": "hebbian.sparsity:HebbianSparsity",
    "hebbian-synaptic-noise": "hebbian.synaptic_noise:HebbianSynapticNoise",
}
