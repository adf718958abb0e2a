r"""
Ten images
==========

For those who have a large set of images from one world and ten from another. This page adapts a
model of the first to the ten, asks whether ten are enough, and shows what tuning everything would
have done instead. Embeddings of a frozen encoder go the same way: every function takes arrays of
any shape.

The data here are the digits inside scikit-learn, of 8 by 8 pixels. The source are the digits 1 to
9, the target are zeros, of which we are given ten. The others are held out, to judge by.
"""

import tempfile
from pathlib import Path

import jax
import matplotlib.pyplot as plt
import numpy as np

import fsd_jax as fsd
from fsd_jax.image import closed_form, data, metrics

task = data.digits(shots=10)
print(task)


def sheet(rows):
    """Draw a row of pictures for each name."""
    across = max(len(images) for images in rows.values())
    _, axes = plt.subplots(
        len(rows), across, figsize=(0.75 * across, 0.8 * len(rows) + 0.2), squeeze=False
    )
    for line, (name, images) in zip(axes, rows.items(), strict=True):
        for ax in line:
            ax.axis("off")
        for ax, image in zip(line, images, strict=False):
            ax.imshow(np.squeeze(image), cmap="gray_r", vmin=0, vmax=1)
        line[0].set_title(name, loc="left", fontsize=9).set_in_layout(False)


sheet({"ten of the source": task.source[:10], "the ten target images": task.target})

# %%
# Adapt
# -----
#
# There is nothing to set. The model is Gaussian: its mean lies between the source's and that of the
# ten, its covariance mixes the source's, as it holds for images that the source has not seen, with
# that of the ten. The weights are chosen by leaving out one of the ten at a time, exactly and
# without refitting. What was chosen, the model says.

model = fsd.adapt(task.source, task.target)
print(model)
print(model.choices)

# %%
# Is ten enough?
# --------------
#
# The loss is that of denoising, averaged over noise levels, on target images that the model has
# not seen. Two rivals stand beside the model: the source as it is (with its own mean or that of
# the ten, whichever is better), and a model of the ten alone.

report = model.report(task.heldout)
print(report)

# %%
# Read it like this.
#
# - **minus model** is what a rival loses against the model on the same images, and **s.e.** is the
#   standard error of that difference. Losses of different methods rise and fall together from image
#   to image, so the difference is known much better than either loss.
# - **directions found** says how many directions ten images can show at all. For all others the
#   model relies on the source.
# - The last line is the answer. It says *yes* only if the gain is above about two standard errors,
#   by Student's t.
#
# The answer is about this draw of ten. Most people have no held-out images; then the report leaves
# out one of the ten at a time and refits.

assert report.enough
alone = model.report()
print(alone)

# %%
# The second report is what you get when ten images are all there is: nine images for each fit,
# and ten losses to average over. Its error bar is several times wider, and it may well answer
# *cannot tell* where 168 held-out images can.

assert alone.source.difference_stderr > 2 * report.source.difference_stderr

# %%
# The paper's class
# -----------------
#
# The paper tunes a linear encoder and decoder of d directions and keeps the source's variances
# along them. Within that class the optimum for the ten images is exact, and takes milliseconds. It
# is a theory of what a frozen model can do, and d is yours to choose.

x = task.heldout
pretrained = {d: fsd.pretrain(task.source, latent_dim=d) for d in (8, 16, 32)}
classes = {d: fsd.finetune(source, task.target) for d, source in pretrained.items()}
gains = {}
for d, few in classes.items():
    gain = np.asarray(few.losses(x) - model.losses(x))
    gains[d] = gain.mean(), gain.std(ddof=1) / len(gain) ** 0.5
    words = "d = {}: loss {:.2f}, above that of the adapted model by {:.2f} +- {:.2f}"
    print(words.format(d, float(few.loss(x)), *gains[d]))

# %%
# At each of these d the adapted model has less loss on held-out images, by many standard errors of
# the difference, which is taken image by image.

assert all(gain > 4 * error for gain, error in gains.values())

# %%
# Would tuning everything have memorised them?
# --------------------------------------------
#
# Yes. Over all networks the loss on ten images is least for the score of those ten images, and that
# optimum is known: ``EmpiricalScore``. What it generates are copies. The same noise drives the
# three lower rows.

everything = fsd.EmpiricalScore.from_samples(task.target)
key = jax.random.key(0)
shape = task.target.shape[1:]
pictures = {
    "everything tuned": closed_form.generate(key, everything, 200, shape=shape),
    "encoder and decoder only": closed_form.generate(key, classes[16], 200, shape=shape),
    "adapted": closed_form.generate(key, model, 200, shape=shape),
}
sheet({"the ten target images": task.target} | {k: v[:10] for k, v in pictures.items()})

# %%
# A sample counts as memorised if it is three times nearer to one of the ten than to any other.

copied = {name: metrics.memorised_fraction(x, task.target) for name, x in pictures.items()}
for name, share in copied.items():
    print(f"{name:26s} memorised: {share.value:.3f} +- {share.stderr:.3f}")

assert copied["everything tuned"].value > 0.95
assert copied["encoder and decoder only"].value < 0.05
assert copied["adapted"].value < 0.05

# %%
# A caution that belongs to the pictures: a Gaussian model of pixels makes blurred, ghostly zeros.
# The statement is about what is copied and what is not, and about the loss. For images to look
# at, adapt the embeddings of an autoencoder instead. The guide on :doc:`images </images>` goes on
# from here, with faces, garments and networks.
#
# Keep it
# -------
#
# A model is a file of arrays and a header, without pickle.

with tempfile.TemporaryDirectory() as folder:
    path = Path(folder, "zeros.npz")
    fsd.save(path, model)
    again = fsd.load(path)
    print(f"{path.stat().st_size / 1024:.0f} KiB: {again}")
assert np.array_equal(again.decoder, model.decoder)
