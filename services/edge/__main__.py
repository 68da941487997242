"""`python -m services.edge`"""

from services.edge.settings import EdgeSettings
from services.edge.wiring import build
from services.runtime.service import main

if __name__ == "__main__":
    main("edge", EdgeSettings, build)
