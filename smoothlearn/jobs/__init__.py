"""Certification of pipelines and searches, and of many rows."""
