"""Check what is inside a wheel: all of fsd_jax, its type marker and licence, and nothing else."""

import sys
import zipfile
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[1]


def main(wheel: str) -> None:
    names = {name for name in zipfile.ZipFile(wheel).namelist() if not name.endswith("/")}
    packaged = {name for name in names if not name.split("/")[0].endswith(".dist-info")}
    expected = {path.relative_to(CHECKOUT).as_posix() for path in CHECKOUT.glob("fsd_jax/**/*.py")}
    expected.add("fsd_jax/py.typed")
    problems = [f"missing from the wheel: {name}" for name in sorted(expected - packaged)]
    problems += [f"should not be in the wheel: {name}" for name in sorted(packaged - expected)]
    if not any(name.endswith("/LICENSE") for name in names - packaged):
        problems.append("missing from the wheel: LICENSE")
    if problems:
        raise SystemExit("\n".join(problems))
    print(f"{Path(wheel).name}: {len(packaged)} files, all of fsd_jax and nothing else")


if __name__ == "__main__":
    main(*sys.argv[1:])
