"""Rules with traces: rewards, plateaus, learning signals and spikes that come at another time than the input."""

TRACES: dict[str, str] = {
    "three-factor-window": "traces.reward:ThreeFactorWindow",
    "btsp-kernel": "traces.plateau:BTSPKernel",
    "stdp-phase": "traces.stdp:STDPPhase",
    "btsp-weights": "traces.plateau:BTSPWeights",
    "three-factor-baseline": "traces.reward:ThreeFactorBaseline",
    "stdp-chain": "traces.stdp:STDPChain",
    "e-prop-window": "traces.eprop:EPropWindow",
    "e-prop-gradient": "traces.eprop:EPropGradient",
}
