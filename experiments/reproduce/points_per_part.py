"""The number of points of a part.

python -m experiments.reproduce.points_per_part --workdir=R --source=SET=FOLDER [--status]
"""

from experiments.reproduce import kit

if __name__ == "__main__":
    kit.main("points_per_part")
