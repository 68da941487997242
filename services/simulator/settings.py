"""Settings of the simulator."""

from services.runtime.settings import Settings


class SimulatorSettings(Settings):
    """`PARLEY_SIMULATOR_...`, besides those of every service."""

    simulator_port: int = 8090
    """HTTP port; 0 for any free one."""
    simulator_hosts: str = ""
    """Names, separated by commas, by which it may be called besides those of loopback and its own address."""
    simulator_calls: int = 20_000
    """Calls that are remembered; the oldest go first."""
