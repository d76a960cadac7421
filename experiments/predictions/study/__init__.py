"""Studies: what turns the results of a spec into figures and verdicts. A spec names one as `study = "..."`."""

STUDIES = {
    "plasticity-window": "experiments.predictions.study.plasticity_window",
    "see-the-dynamics": "experiments.predictions.study.see_the_dynamics",
}
NEEDED_PARTS = {"plasticity-window": ("synapse", "lags", "dense", "gaps", "window", "alignment")}
