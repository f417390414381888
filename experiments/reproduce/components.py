"""The ablations of section 4.6: points, background, losses, auto-encoders.

python -m experiments.reproduce.components --workdir=R --source=SET=FOLDER [--status]
"""

from experiments.reproduce import kit

if __name__ == "__main__":
    kit.main("components")
