"""Landmark errors on CelebA, in the wild and aligned.

python -m experiments.reproduce.landmarks --workdir=R --source=SET=FOLDER [--status]
"""

from experiments.reproduce import kit

if __name__ == "__main__":
    kit.main("landmarks")
