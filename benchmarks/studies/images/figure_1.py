"""Figure 1's twin: drawn faces with hair to bald ones, all or encoder and decoder tuned."""

from benchmarks.studies.images.images.twins import twin

STUDY = twin(
    1,
    "avatars",
    summary="drawn faces with hair to bald ones: copies, new members, a sheet of pictures",
    says="Faces: tuning encoder and decoder gives new bald faces, tuning everything memorises",
)
