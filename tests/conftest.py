"""Settings for every test."""

from hypothesis import settings

settings.register_profile("framestream", deadline=None)  # timings belong in bench/
settings.load_profile("framestream")
