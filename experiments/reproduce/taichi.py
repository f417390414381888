"""Landmark error and foreground IoU on Taichi.

python -m experiments.reproduce.taichi --workdir=R --source=SET=FOLDER [--status]
"""

from experiments.reproduce import kit

if __name__ == "__main__":
    kit.main("taichi")
