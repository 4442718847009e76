"""Venue-free bindings: models made from other models."""
