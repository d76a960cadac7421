"""SGD as a mode of any rule: map, Ito SDE and modified flow; and SKA, a rule that claims a time of its own."""

SGD_MODES: dict[str, str] = {
    "modified-flow": "sgd.modified_flow:ModifiedFlow",
    "law-of-balance": "sgd.balance:LawOfBalance",
    "ito-noise": "sgd.balance:ItoNoise",
    "sgd-stability": "sgd.minima:Stability",
    "sgd-flatness": "sgd.minima:Flatness",
    "ska-entropy": "sgd.ska:SkaEntropy",
    "ska-time-invariance": "sgd.ska:SkaTimeInvariance",
    "ska-growth": "sgd.ska_growth:SkaGrowth",
    "ska-field": "sgd.ska:SkaField",
}
