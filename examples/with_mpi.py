"""A model that several processes share. Start it with MPI's mpiexec:

mpiexec -n 2 python examples/with_mpi.py stories "Once upon a time"
"""

import sys

import tinystar_np as ts


def main(name: str, prompt: str) -> None:
    ranks = ts.MpiRanks()
    if ranks.rank > 0:
        ts.follow(ranks)  # until rank 0 ends
        return
    with ranks:
        model, tokenizer = ts.load(name, ranks=ranks)
        print(ts.generate(model, tokenizer, prompt, max_new_tokens=40, temperature=0.0))


if __name__ == "__main__":
    main(*sys.argv[1:])
