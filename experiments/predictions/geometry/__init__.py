"""The geometry of learning: multiplicative synapses, coupled replicas, and what symmetries keep."""

GEOMETRY: dict[str, str] = {
    "exponentiated-logistic": "geometry.logistic:ExponentiatedLogistic",
    "exponentiated-lognormal": "geometry.lognormal:ExponentiatedLognormal",
    "exponentiated-strong-orders": "geometry.strong_orders:StrongOrders",
    "exponentiated-signs": "geometry.signs:ExponentiatedSigns",
    "replicas-noise": "geometry.replica_noise:ReplicaNoise",
    "replicas-agreement": "geometry.replica_agreement:ReplicaAgreement",
    "noether-charges": "geometry.charges:NoetherCharges",
    "softmax-charge": "geometry.softmax_charge:SoftmaxCharge",
    "noether-momentum": "geometry.momentum:NoetherMomentum",
    "noether-equilibrium": "geometry.equilibrium:NoetherEquilibrium",
    "symmetry-restoration": "geometry.restoration:SymmetryRestoration",
    "equivariance": "geometry.equivariance:Equivariance",
}
