"""Slow, obvious NumPy float64 versions of the library's numbers, with D x D matrices throughout."""

import numpy as np
import scipy.linalg


def levels(t, integrated=None):
    """``(m_t^2, sigma_t^2)`` for rate one, or for a given integral of the rate."""
    b = np.float64(t) if integrated is None else np.float64(integrated)
    return np.exp(-b), -np.expm1(-b)


def second_moment(x, *, centre=False):
    x = np.asarray(x, np.float64)
    y = x - x.mean(axis=0) if centre else x
    return y.T @ y / x.shape[0]


def eigenpairs(C):
    values, vectors = np.linalg.eigh(C)
    return values[::-1], vectors[:, ::-1]


def top_projector(C, k):
    vectors = eigenpairs(np.asarray(C, np.float64))[1][:, :k]
    return vectors @ vectors.T


def projector(basis, k=None):
    basis = np.asarray(basis, np.float64)[:, :k]
    return basis @ basis.T


def gains(latent_variance, t):
    m2, s2 = levels(t)
    return m2 * latent_variance / (m2 * latent_variance + s2)


def rank_minimiser(C, latent_variance, d, t):
    """Lemma 5.1 by Eckart-Young: the loss is ``|S^(1/2) g P - m2 S^(-1/2) C|^2 + const``."""
    m2, s2 = levels(t)
    g = gains(latent_variance, t)
    S = m2 * C + s2 * np.eye(len(C))
    target = m2 * np.linalg.inv(scipy.linalg.sqrtm(S).real) @ C
    u, s, vt = np.linalg.svd(target)
    best = (u[:, :d] * s[:d]) @ vt[:d]
    return np.linalg.inv(scipy.linalg.sqrtm(S).real) @ best / g


def paper_formula(C, latent_variance, t):
    m2, s2 = levels(t)
    eye = np.eye(len(C))
    return (m2 * latent_variance + s2) / latent_variance * np.linalg.inv(m2 * C + s2 * eye) @ C


def loss(V, C, latent_variance, times, weights):
    """``sum_k w_k E|-(x_t - m x)/s2 - (V G V' x_t - x_t)/s2|^2`` from dense matrices."""
    V = np.asarray(V, np.float64)
    total = 0.0
    lam2 = np.broadcast_to(np.asarray(latent_variance, np.float64), V.shape[1:])
    for t, w in zip(np.atleast_1d(times), np.atleast_1d(weights), strict=True):
        m2, s2 = levels(t)
        W = V @ np.diag(gains(lam2, t)) @ V.T
        residual = np.eye(len(C)) - W
        total += w * (m2 * np.trace(residual @ C @ residual.T) + s2 * np.trace(W @ W.T)) / s2**2
    return total


def score_matrix(V, latent_variance, tau2, t, basis):
    """``s(y) = M y`` of a linear score with decoder V, the residual gain acting outside `basis`."""
    m2, s2 = levels(t)
    lam2 = np.broadcast_to(np.asarray(latent_variance, np.float64), V.shape[1:])
    outside = np.eye(len(V)) - basis @ basis.T
    W = V @ np.diag(gains(lam2, t)) @ V.T + m2 * tau2 / (m2 * tau2 + s2) * outside
    return (W - np.eye(len(V))) / s2


def gaussian_score(x, mean, covariance):
    return -np.linalg.solve(covariance, (np.asarray(x, np.float64) - mean).T).T


def diffused(mean, covariance, t):
    m2, s2 = levels(t)
    return np.sqrt(m2) * mean, m2 * covariance + s2 * np.eye(len(covariance))


def score_error(M, centre, mean, covariance, times, weights):
    """``sum w E|M(t)(x_t - m centre) - grad log q_t(x_t)|^2``, M a function of t."""
    total = 0.0
    for t, w in zip(np.atleast_1d(times), np.atleast_1d(weights), strict=True):
        m_mean, S = diffused(mean, covariance, t)
        delta = M(t) + np.linalg.inv(S)
        bias = M(t) @ (m_mean - np.sqrt(levels(t)[0]) * centre)
        total += w * (np.trace(delta @ S @ delta.T) + bias @ bias)
    return total


def thin_covariance(law):
    """Dense float64 covariance of a `ThinGaussian`."""
    B = np.asarray(law.basis, np.float64)
    variance = np.asarray(law.variance, np.float64)
    return B @ np.diag(variance) @ B.T + float(law.residual_variance) * (np.eye(len(B)) - B @ B.T)


def kl(mean_p, P, mean_q, Q):
    shift = np.asarray(mean_q, np.float64) - np.asarray(mean_p, np.float64)
    inverse = np.linalg.inv(Q)
    log_det = np.linalg.slogdet(Q)[1] - np.linalg.slogdet(P)[1]
    return 0.5 * (np.trace(inverse @ P) + shift @ inverse @ shift - len(P) + log_det)


def w2_squared(mean_p, P, mean_q, Q):
    shift = np.asarray(mean_q, np.float64) - np.asarray(mean_p, np.float64)
    root = scipy.linalg.sqrtm(P).real
    cross = scipy.linalg.sqrtm(root @ Q @ root).real
    return shift @ shift + np.trace(P + Q - 2 * cross)


def random_orthonormal(rng, ambient, k):
    return np.linalg.qr(rng.normal(size=(ambient, k)))[0]


def reverse_step(method, y, score, t, s, h, noise):
    """One step of a sampler from t to s < t, for any score, straight from the equations."""
    if method == "ei_sde":
        return (
            np.exp(h / 2) * y
            + 2 * (np.exp(h / 2) - 1) * score(y, t)
            + np.sqrt(np.exp(h) - 1) * noise
        )
    if method == "em_sde":
        return y + h * (y / 2 + score(y, t)) + np.sqrt(h) * noise
    if method == "ei_ode":
        return np.exp(h / 2) * y + (np.exp(h / 2) - 1) * score(y, t)
    ahead = y + h * (y + score(y, t)) / 2
    return y + h / 2 * ((y + score(y, t)) / 2 + (ahead + score(ahead, s)) / 2)


def reverse_law(method, score, mean, covariance, times, integrated):
    """Mean and covariance of a sampler with an affine score, its matrices found by probing."""
    size = len(mean)
    for t, s in zip(times[:0:-1], times[-2::-1], strict=True):
        h = integrated(t) - integrated(s)

        def step(y, noise, t=t, s=s, h=h):
            return reverse_step(method, y, score, t, s, h, noise)

        zero = np.zeros(size)
        shift = step(zero, zero)
        M = np.stack([step(e, zero) - shift for e in np.eye(size)], axis=1)
        N = np.stack([step(zero, e) - shift for e in np.eye(size)], axis=1)
        mean, covariance = M @ mean + shift, M @ covariance @ M.T + N @ N.T
    return mean, covariance


def subspace_error(V, A):
    """``||VV' - AA'||_F^2``."""
    return np.sum((projector(V) - projector(A)) ** 2)


def principal_angles(a, b):
    """By sines and cosines, in float64: bases are made orthonormal again first."""
    a, b = (np.linalg.qr(np.asarray(x, np.float64))[0] for x in (a, b))
    return scipy.linalg.subspace_angles(a, b)[::-1]


def nearest_distances(samples, train):
    """Distances to the nearest and second-nearest of the different training rows."""
    train = np.unique(np.asarray(train, np.float64), axis=0)
    differences = np.asarray(samples, np.float64)[:, None] - train
    return np.sort(np.linalg.norm(differences, axis=2), axis=1)[:, :2]


def frechet_distance(x, y):
    """``tr (P^(1/2) Q P^(1/2))^(1/2)``: the singular values of products of centred rows, summed."""
    (n, x), (m, y) = ((len(a), np.asarray(a, np.float64)) for a in (x, y))
    mean_x, mean_y = x.mean(axis=0), y.mean(axis=0)
    a, b = (x - mean_x) / np.sqrt(n - 1), (y - mean_y) / np.sqrt(m - 1)
    cross = np.linalg.svd(a @ b.T, compute_uv=False).sum()
    return np.sum((mean_x - mean_y) ** 2) + np.sum(a**2) + np.sum(b**2) - 2 * cross
