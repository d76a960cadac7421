"""Specs that several tests read: one that uses every table, and one with parts."""

FULL = """
name = "full"
description = 'quotes " and \\ and µ'
regime = "coupled"
seed = 3
dtype = "float64"

[task]
name = "teacher-student"
inputs = 6
teacher_hidden = [4]

[network]
hidden = [5, 7]
activation = "relu"
gain = 1.5
skips = [[0, 2], [1, 3]]

[rule]
name = "curl"
credit = {name = "fa", feedback_scale = 2.0}
flips = [0.1, 0.2, 0.3]

[timescales]
propagation = ["2 ms", "3 ms", "0.1 T"]
plasticity = "1.5 s"
decay = "10 min"
trace = "100 ms"

[stimulus]
duration = "80 ms"
gap = "0.5 T"
presentations = 200

[delays]
error = "0.3 T"
hop = 0.001
stages = 3

[noise]
activity = 0.1
synaptic_multiplicative = 0

[integrator]
name = "milstein"
dt = "0.01 T"

[record]
points = 5
probes = ["loss", "weight_norm"]

[sweep]
"delays.error" = {linspace = ["0 T", "1.2 T", 3]}
"timescales.plasticity.1" = ["1 s", "inf"]
"network.gain" = {logspace = [0.1, 10, 2]}
seeds = 2
zip = [["timescales.plasticity.1", "network.gain"]]
"""

PARTS = """
seed = 1
[stimulus]
duration = "100 ms"
[quick]
"stimulus.presentations" = 100
"sweep.seeds" = 1
[parts.delay]
set = {"stimulus.gap" = "0 T", rule = "kp"}
[parts.delay.sweep]
"delays.error" = [0, "1 T"]
seeds = 3
[parts.window]
set = {"stimulus.gap" = "1 T", "rule.name" = "fa", "rule.feedback_scale" = 2.0}
quick = {"stimulus.presentations" = 20, "sweep.timescales.plasticity" = ["1 s"]}
[parts.window.sweep]
timescales.plasticity = ["1 s", "2 s", "3 s"]
"""
