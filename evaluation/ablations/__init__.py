"""Every row of the paper's ablations and every control, on a world that is described neutrally (`world.py`)."""
