"""Learning in continuous time: overlap of input and error, the plasticity window, delays, gaps and traces."""

CONTINUOUS = {
    "overlap-law": "continuous.overlap_law:OverlapLaw",
    "multiplicative-noise": "continuous.multiplicative_noise:MultiplicativeNoise",
    "overlap-lag-stages": "continuous.lag_stages:LagStages",
    "kolen-pollack-rate": "continuous.kolen_pollack:KolenPollackRate",
    "accuracy-delay": "continuous.accuracy_delay:AccuracyDelay",
    "trace-rescue": "continuous.trace_rescue:TraceRescue",
    "blank-gaps": "continuous.blank_gaps:BlankGaps",
    "layer-alignment": "continuous.layer_alignment:LayerAlignment",
    "skip-connections": "continuous.skip_connections:SkipConnections",
    "delay-duration-1": "continuous.delay_duration:OneHidden",
    "delay-duration-2": "continuous.delay_duration:TwoHidden",
    "delay-duration-3": "continuous.delay_duration:ThreeHidden",
    "adam-comparison": "continuous.adam_comparison:AdamComparison",
    "circles-depth": "continuous.circles_depth:CirclesDepth",
    "accuracy-propagation": "continuous.accuracy_propagation:AccuracyPropagation",
    "learning-rate-equivalence": "continuous.learning_rate:LearningRate",
    "activity-noise": "continuous.activity_noise:ActivityNoise",
    "accuracy-timescale": "continuous.plasticity_window:PlasticityWindow",
}
