"""Static checks: the module's style, and what is built, for what no emulated machine can run."""
