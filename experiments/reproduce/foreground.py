"""Foreground IoU and landmark error on CUB and Flowers.

python -m experiments.reproduce.foreground --workdir=R --source=SET=FOLDER [--status]
"""

from experiments.reproduce import kit

if __name__ == "__main__":
    kit.main("foreground")
