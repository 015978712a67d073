"""From the crop of a source frame to the target's pixels: plain resampling, or a network."""
