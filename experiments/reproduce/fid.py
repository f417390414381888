"""FID; needs --set=evaluation.inception_checkpoint=FILE.

python -m experiments.reproduce.fid --workdir=R --source=SET=FOLDER [--status]
"""

from experiments.reproduce import kit

if __name__ == "__main__":
    kit.main("fid")
