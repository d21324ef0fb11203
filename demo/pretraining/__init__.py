"""How the shipped tiny CLIP was made; run once, offline: `python -m demo.pretraining.train WORK_DIR OUT_DIR`."""
