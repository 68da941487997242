"""`python -m services.delivery`"""

from services.delivery.settings import DeliverySettings
from services.delivery.wiring import build
from services.runtime.service import main

if __name__ == "__main__":
    main("delivery", DeliverySettings, build)
