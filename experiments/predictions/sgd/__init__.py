"""SGD as a mode of any rule: map, Ito SDE and modified flow; and SKA, a rule that claims a time of its own."""

SGD_MODES: dict[str, str] = {
    "modified-flow": "sgd.modified_flow:ModifiedFlow",
    "law-of-balance": "sgd.law_of_balance:LawOfBalance",
    "ito-noise": "sgd.ito_noise:ItoNoise",
    "sgd-stability": "sgd.stability:Stability",
    "sgd-flatness": "sgd.flatness:Flatness",
    "ska-entropy": "sgd.ska_entropy:SkaEntropy",
    "ska-time-invariance": "sgd.ska_time:SkaTimeInvariance",
    "ska-growth": "sgd.ska_growth:SkaGrowth",
    "ska-field": "sgd.ska_field:SkaField",
}
