"""`python -m services.telemetry`"""

from services.runtime.service import main
from services.telemetry.settings import TelemetrySettings
from services.telemetry.wiring import build

if __name__ == "__main__":
    main("telemetry", TelemetrySettings, build)
