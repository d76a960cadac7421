"""What a prediction is: a claim of the literature, computed from parameters, measured by simulation, and drawn."""

import re
from abc import abstractmethod
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, NamedTuple

from matplotlib.figure import Figure
from pydantic import Field, ValidationError, model_validator

from dynamics.errors import PlasticodeError, printable, refused
from experiments.results.verdicts import Verdict
from experiments.spec.tables import AbstractTable, Quantity, unknown_key
from experiments.spec.units import Time

Duration = Annotated[Time, Quantity(relative=False)]
Positive = Annotated[float, Quantity(time=False)]
NonNegative = Annotated[float, Quantity(time=False, zero=True)]
Fraction = Annotated[float, Field(strict=True, ge=0, le=1)]
Size = Annotated[int, Field(strict=True, gt=0, le=10_000)]
Seeds = Annotated[int, Field(strict=True, ge=2, le=10_000)]  # an interval needs two
Positives = Annotated[tuple[Positive, ...], Field(min_length=1)]
NonNegatives = Annotated[tuple[NonNegative, ...], Field(min_length=1)]
Fractions = Annotated[tuple[Fraction, ...], Field(min_length=1)]
Sizes = Annotated[tuple[Size, ...], Field(min_length=1)]
TEXTS = {"number", "title", "source", "equation", "claim", "method", "tolerance"}


class Finding(NamedTuple):
    """What came out: verdicts, one figure with theory and simulation together, and sentences worth knowing."""

    verdicts: list[Verdict]
    figure: Figure
    notes: list[str] = []


class AbstractPrediction(AbstractTable):
    """A prediction: its parameters are fields, and what it expects is computed from them.

    number     of the prediction in the list of its paper
    source     bibtex key, and where in the paper the claim stands or how it follows
    equation   as plain text; `claim` says it in words
    method     how it is measured; `tolerance` says what is allowed and why
    quick      values of fields for a first look: fewer seeds, smaller networks, the same closed form
    seed       the first of the seeds, from which everything random follows

    Texts may run over several lines, which are joined.
    """

    number: ClassVar[str]
    title: ClassVar[str]
    source: ClassVar[str]
    equation: ClassVar[str]
    claim: ClassVar[str]
    method: ClassVar[str]
    tolerance: ClassVar[str]
    quick: ClassVar[Mapping[str, Any]] = {}

    seed: Annotated[int, Field(strict=True, ge=0, lt=2**31)] = 0

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        for name in TEXTS & vars(cls).keys():
            setattr(cls, name, re.sub(r"\n\s*", " ", getattr(cls, name)))

    @model_validator(mode="after")
    def _fits(self) -> "AbstractPrediction":
        said = self.misfit()
        if said:
            raise ValueError(said)
        return self

    def misfit(self) -> str | None:
        """A sentence about parameters that do not fit each other, if there are any."""

    @abstractmethod
    def measure(self) -> Finding:
        """Simulate, compare with the expectation, draw. On one device; in float64 unless a spec says float32."""

    @classmethod
    def configured(cls, name: str, settings: Mapping[str, Any], quick: bool = False) -> "AbstractPrediction":
        """The prediction called `name` with some parameters set; a mistake in one raises `PlasticodeError`."""
        for key in settings:
            if key not in cls.model_fields:
                raise unknown_key(f"{name}.{key}", list(cls.model_fields))
        try:
            return cls.model_validate({**(cls.quick if quick else {}), **settings})
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            cause = first.get("ctx", {}).get("error")
            reason = str(cause) if cause is not None else first["msg"].replace("Input should", "it must")
            said = {"tuple_type": "it must be a list, such as [0.3]", "too_short": "the list is too short"}
            reason = said.get(first["type"], reason)
            if not first["loc"]:  # parameters that do not fit each other
                raise PlasticodeError(f"the parameters of '{name}' are not allowed: {reason}") from None
            path = ".".join([name, *(printable(str(item)) for item in first["loc"])])
            raise refused(path, first["input"], reason) from None
