"""Curl descent: phase boundaries of sign-diverse plasticity, its invariants, rates and chaos."""

CURL: dict[str, str] = {
    "curl-spectrum": "curl.spectrum:Spectrum",
    "curl-hidden-boundary": "curl.boundaries:HiddenBoundary",
    "curl-readout-boundary": "curl.boundaries:ReadoutBoundary",
    "curl-mixed-boundary": "curl.mixed_boundary:MixedBoundary",
    "curl-size-limits": "curl.size_limits:SizeLimits",
    "curl-covariance": "curl.covariance:Covariance",
    "curl-lyapunov": "curl.lyapunov:Lyapunov",
    "curl-order-parameter": "curl.order_parameter:OrderParameter",
    "curl-readout-errors": "curl.readout_errors:ReadoutErrors",
    "curl-toy": "curl.toy_model:ToyModel",
    "curl-invariants": "curl.invariants:Invariants",
    "curl-rate": "curl.relaxation_rate:RelaxationRate",
    "curl-faster-than-gradient": "curl.faster_than_gradient:FasterThanGradient",
}
