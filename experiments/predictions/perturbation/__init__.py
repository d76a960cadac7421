"""Perturbation learning: what noise and one reward can do in place of a gradient, and noise that shows weights."""

PERTURBATION: dict[str, str] = {
    "perturbation-slow-down": "perturbation.steps:SlowDown",
    "perturbation-cosine": "perturbation.steps:PerturbationCosine",
    "perturbation-stability": "perturbation.steps:PerturbationStability",
    "perturbation-size": "perturbation.size:PerturbationSize",
    "perturbation-reward-delay": "perturbation.reward_delay:RewardDelay",
    "weight-mirror-alignment": "perturbation.mirror:MirrorAlignment",
}
