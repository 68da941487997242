"""`python -m services.simulator`."""

from services.simulator.wiring import main

if __name__ == "__main__":
    main()
