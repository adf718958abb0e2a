"""Chapters of studies."""
