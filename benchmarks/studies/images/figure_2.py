"""Figure 2's twin: drawn pale critters to dark ones, all or encoder and decoder tuned."""

from benchmarks.studies.images.images.twins import twin

STUDY = twin(
    2,
    "critters",
    summary="drawn pale critters to dark ones: copies, new members, a sheet of pictures",
    says="Cats: tuning encoder and decoder gives new black cats, tuning everything memorises",
)
