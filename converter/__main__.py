"""`python -m converter`: the command line."""

from converter.cli.main import run

if __name__ == "__main__":
    run()
