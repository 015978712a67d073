"""Sound: samples read, stretched in time, mixed and encoded. No edit, no plan."""
