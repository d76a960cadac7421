"""Rules with traces: rewards, plateaus, learning signals and spikes that come at another time than the input."""

TRACES: dict[str, str] = {
    "three-factor-window": "traces.reward_window:ThreeFactorWindow",
    "btsp-kernel": "traces.plateau_kernel:BTSPKernel",
    "stdp-phase": "traces.stdp_phase:STDPPhase",
    "e-prop-gradient": "traces.eprop_gradient:EPropGradient",
}
