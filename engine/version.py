"""Which engine this is. The version of the distribution is read from here when it is built."""

VERSION = "0.1.0"
