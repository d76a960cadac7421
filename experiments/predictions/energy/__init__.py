"""Learning by settling: equilibrium propagation, contrastive Hebbian learning and predictive coding."""

ENERGY: dict[str, str] = {
    "ep-orders": "energy.orders:EPOrders",
    "ep-learning": "energy.descents:EPLearning",
    "ep-timescales": "energy.nudges:EPTimescales",
    "ep-oscillating": "energy.nudges:EPOscillating",
    "chl-backprop": "energy.orders:CHLBackprop",
    "pc-energy": "energy.descents:PCEnergy",
    "pc-backprop": "energy.orders:PCBackprop",
    "energy-delay-window": "energy.late_errors:EnergyDelayWindow",
    "pc-critical-delay": "energy.late_errors:PCCriticalDelay",
}
