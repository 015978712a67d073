"""Planes of samples in memory: cropped, recoloured, blended. No file, no codec."""
