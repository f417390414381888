"""The ablation with a fixed part scale.

python -m experiments.reproduce.part_scale --workdir=R --source=SET=FOLDER [--status]
"""

from experiments.reproduce import kit

if __name__ == "__main__":
    kit.main("part_scale")
