"""`python -m services.dialog`"""

from services.dialog.settings import DialogSettings
from services.dialog.wiring import build
from services.runtime.service import main

if __name__ == "__main__":
    main("dialog", DialogSettings, build)
