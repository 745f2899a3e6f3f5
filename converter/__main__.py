"""`python -m converter`: the command line."""

from converter.cli.main import main

if __name__ == "__main__":
    main()
