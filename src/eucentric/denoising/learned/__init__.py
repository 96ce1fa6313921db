"""Networks that restore tomograms."""
