"""Figures 1 and 2 of the paper, twins of each other: `images` on one data set and one draw."""

from functools import partial

from benchmarks.judging import Statement
from benchmarks.studies.images.images import compute, finding, lines, sheet
from benchmarks.studies.images.images.judging import pictures
from benchmarks.studies.images.images.measuring import LATENT_DIM, SHOTS
from benchmarks.study import Settings, Study

METHODS = ("everything", "encoder_decoder_empirical", "encoder_decoder")


def _settings(data: str, size: str) -> Settings:
    """The sizes of the benchmark `images`, whose drawings are kept; one draw of the target."""
    quick = size == "quick"
    return {
        "data": [data],
        "size": 28 if quick else 32,
        "source": 300 if quick else 1000,
        "heldout": 240 if quick else 500,
        "shots": SHOTS,
        "d": LATENT_DIM,
        "samples": 64 if quick else 400,
        "steps": 40 if quick else 100,
        "draws": 1,
        "methods": list(METHODS),
    }


def twin(number: int, data: str, *, summary: str, says: str) -> Study:
    """The study of one of the two figures."""
    name = f"figure-{number}"
    return Study(
        name=name,
        figure=name,
        summary=summary,
        settings=partial(_settings, data),
        compute=compute,
        pictures={name: sheet(data)},
        lines=lines,
        finding=finding,
        # Drawing and measuring take longer than a quick run has; it is made if it is named.
        quick=False,
        statements=(
            Statement(
                name=f"Figure {number}",
                place=f"6 Figure {number}",
                says=says,
                function="fsd_jax.image.closed_form.generate",
                test="tests/image/test_closed_form.py::"
                "test_everything_tuned_copies_and_encoder_and_decoder_do_not",
                rule=pictures,
            ),
        ),
    )
