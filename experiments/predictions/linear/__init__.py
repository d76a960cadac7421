"""Deep linear networks: exact solutions, feedback rules, Platonic representations, saddles."""

LINEAR: dict[str, str] = {
    "linear-sigmoids": "linear.modes:ModeSigmoids",
    "linear-riccati": "linear.modes:RiccatiSolution",
    "linear-feedback": "linear.feedback:FeedbackModes",
    "platonic": "linear.platonic:PlatonicKernel",
    "saddle-plateaus": "linear.saddles:SaddlePlateaus",
    "saddle-lottery": "linear.saddles:SaddleLottery",
    "saddle-noise": "linear.saddles:PlateauNoise",
}
