"""The built-in set: rendered articulated figures."""
