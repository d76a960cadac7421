"""Rules with traces: rewards, plateaus, learning signals and spikes that come at another time than the input."""

TRACES: dict[str, str] = {
    "three-factor-window": "traces.reward_window:ThreeFactorWindow",
    "btsp-kernel": "traces.plateau_kernel:BTSPKernel",
    "stdp-phase": "traces.stdp_phase:STDPPhase",
    "btsp-weights": "traces.plateau_weights:BTSPWeights",
    "three-factor-baseline": "traces.reward_baseline:ThreeFactorBaseline",
    "stdp-chain": "traces.stdp_chain:STDPChain",
    "e-prop-window": "traces.eprop_window:EPropWindow",
    "e-prop-gradient": "traces.eprop_gradient:EPropGradient",
}
