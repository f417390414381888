"""Reads and writes what labelling tools export, one module for each tool's format.

Every reader gives `Annotations`: what was drawn on which image, the classes in their order, and
what was left out and why. `folder.read` finds out which formats a folder holds.
"""
