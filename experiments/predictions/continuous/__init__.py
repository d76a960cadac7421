"""Learning in continuous time: overlap of input and error, the plasticity window, delays, gaps and traces."""

CONTINUOUS = {
    "overlap-law": "continuous.overlap_law:OverlapLaw",
}
