"""`python -m services.context`"""

from services.context.settings import ContextSettings
from services.context.wiring import build
from services.runtime.service import main

if __name__ == "__main__":
    main("context", ContextSettings, build)
