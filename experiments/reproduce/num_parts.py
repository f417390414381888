"""The number of parts.

python -m experiments.reproduce.num_parts --workdir=R --source=SET=FOLDER [--status]
"""

from experiments.reproduce import kit

if __name__ == "__main__":
    kit.main("num_parts")
