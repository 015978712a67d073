"""Frames that stay on a device, from the decoder through the network to the encoder."""
