"""The geometry of learning: multiplicative synapses, coupled replicas, and what symmetries keep."""

GEOMETRY: dict[str, str] = {
    "exponentiated-logistic": "geometry.logistic:ExponentiatedLogistic",
    "exponentiated-lognormal": "geometry.multiplicative:ExponentiatedLognormal",
    "exponentiated-strong-orders": "geometry.multiplicative:StrongOrders",
    "exponentiated-signs": "geometry.multiplicative:ExponentiatedSigns",
    "replicas-noise": "geometry.replicas:ReplicaNoise",
    "replicas-agreement": "geometry.replicas:ReplicaAgreement",
    "noether-charges": "geometry.charges:NoetherCharges",
    "softmax-charge": "geometry.charges:SoftmaxCharge",
    "noether-momentum": "geometry.momentum:NoetherMomentum",
    "noether-equilibrium": "geometry.decay:NoetherEquilibrium",
    "symmetry-restoration": "geometry.decay:SymmetryRestoration",
    "equivariance": "geometry.equivariance:Equivariance",
}
