"""What networks learn of noisy data, and when: linear regression, double descent, grokking, rich and lazy starts."""

GENERALISATION: dict[str, str] = {
    "generalisation-curves": "generalisation.learning_curves:LearningCurves",
    "frozen-subspace": "generalisation.learning_curves:FrozenSubspace",
    "epoch-double-descent": "generalisation.double_descent:EpochDoubleDescent",
    "grokking-loss": "generalisation.grokking:GrokkingLoss",
    "grokking-delay": "generalisation.grokking:GrokkingDelay",
    "connectivity-rank": "generalisation.connectivity:ConnectivityRank",
}
