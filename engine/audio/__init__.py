"""Sound: reads samples, stretches them in time, mixes and encodes them. Knows no edit, no plan."""
