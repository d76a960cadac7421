"""Learning in continuous time: overlap of input and error, the plasticity window, delays, gaps and traces."""

CONTINUOUS = {
    "overlap-law": "continuous.overlap_law:OverlapLaw",
    "multiplicative-noise": "continuous.multiplicative_noise:MultiplicativeNoise",
    "overlap-lag-stages": "continuous.overlap_law:LagStages",
    "kolen-pollack-rate": "continuous.exact:KolenPollackRate",
    "accuracy-delay": "continuous.accuracy_limits:AccuracyDelay",
    "trace-rescue": "continuous.overlap_law:TraceRescue",
    "blank-gaps": "continuous.accuracy_limits:BlankGaps",
    "layer-alignment": "continuous.deep_overlap:LayerAlignment",
    "skip-connections": "continuous.deep_overlap:SkipConnections",
    "delay-duration-1": "continuous.delay_duration:OneHidden",
    "delay-duration-2": "continuous.delay_duration:TwoHidden",
    "delay-duration-3": "continuous.delay_duration:ThreeHidden",
    "adam-comparison": "continuous.depths:AdamComparison",
    "circles-depth": "continuous.depths:CirclesDepth",
    "accuracy-propagation": "continuous.accuracy_limits:AccuracyPropagation",
    "learning-rate-equivalence": "continuous.exact:LearningRate",
    "activity-noise": "continuous.accuracy_limits:ActivityNoise",
    "accuracy-timescale": "continuous.plasticity_window:PlasticityWindow",
}
