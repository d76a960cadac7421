"""Learning by settling: equilibrium propagation, contrastive Hebbian learning and predictive coding."""

ENERGY: dict[str, str] = {
    "ep-orders": "energy.orders:EPOrders",
    "ep-learning": "energy.learning:EPLearning",
    "ep-timescales": "energy.separation:EPTimescales",
    "ep-oscillating": "energy.oscillating:EPOscillating",
    "chl-backprop": "energy.orders:CHLBackprop",
    "pc-energy": "energy.equilibrated:PCEnergy",
    "pc-backprop": "energy.residual:PCBackprop",
    "energy-delay-window": "energy.delay_window:EnergyDelayWindow",
    "pc-critical-delay": "energy.critical_delay:PCCriticalDelay",
}
