import experiments.machine.drawing  # noqa: F401 - before matplotlib
