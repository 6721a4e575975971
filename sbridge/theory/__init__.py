"""Theory beside the solvers: each module states a result, its formula, and the functions that compute it.

control       regression losses bound the KL divergence of the generated law
line          laws of diffusions and flows on a line, up to the error of a grid
oracle        exact fields of an interpolant between Gaussian mixtures
conversions   from one field of an interpolant to another
"""
