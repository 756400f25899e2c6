"""Static checks of what is built, for what no emulated machine can run."""
