"""`python -m services.limits`"""

from services.limits.settings import LimitsSettings
from services.limits.wiring import build
from services.runtime.service import main

if __name__ == "__main__":
    main("limits", LimitsSettings, build)
