"""What the tests of predictions ask of a finding."""

from experiments.predictions.contract import Finding


def failed(finding: Finding) -> set[str]:
    """The names of the claims that do not hold beyond doubt."""
    return {verdict.name for verdict in finding.verdicts if not verdict.passed}
