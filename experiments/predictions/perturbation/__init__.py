"""Perturbation learning: what noise and one reward can do in place of a gradient, and noise that shows weights."""

PERTURBATION: dict[str, str] = {
    "perturbation-slow-down": "perturbation.slow_down:SlowDown",
    "perturbation-cosine": "perturbation.cosine:PerturbationCosine",
    "perturbation-stability": "perturbation.stability:PerturbationStability",
    "perturbation-size": "perturbation.size:PerturbationSize",
    "perturbation-reward-delay": "perturbation.reward_delay:RewardDelay",
    "weight-mirror-alignment": "perturbation.mirror:MirrorAlignment",
}
