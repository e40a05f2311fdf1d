"""Global contrast normalization and ZCA whitening, by pylearn2's formulas and NumPy's eigenvectors in float64."""

import numpy as np
from safetensors.numpy import save_file

from draws import HERE, draw

SHAPE = (3, 4, 5)


def pictures(stream, count):
    """Pixels from 0 to 254: half of it the same for a row of an image."""
    numbers = int(np.prod(SHAPE))
    rows = draw(stream, np.arange(count * numbers) // SHAPE[2]) >> np.uint64(57)
    pixels = draw(stream + 1, np.arange(count * numbers)) >> np.uint64(57)
    return (rows + pixels).astype(np.float64).reshape(count, numbers)


def gcn(images):
    """`global_contrast_normalize` of pylearn2 with scale 55, use_std False, sqrt_bias 0, min_divisor 1e-8."""
    images = images - images.mean(axis=1, keepdims=True)
    divisors = np.sqrt((images**2).sum(axis=1, keepdims=True)) / 55.0
    divisors[divisors < 1e-8] = 1.0
    return images / divisors


def whitening():
    # Fewer images than numbers: most eigenvalues of the covariance are 0.
    images, others = pictures(950, 24), pictures(960, 4)
    others[1] = 77.0
    rows = gcn(images)
    mean = rows.mean(axis=0)
    covariance = (rows - mean).T @ (rows - mean) / len(rows)
    values, vectors = np.linalg.eigh(covariance + 0.1 * np.eye(len(mean)))
    matrix = (vectors / np.sqrt(values)) @ vectors.T
    tensors = {
        "images": images, "others": others, "others.gcn": gcn(others),
        "others.gcn-zca": (gcn(others) - mean) @ matrix,
    }
    save_file({name: value.astype(np.float32) for name, value in tensors.items()}, HERE / "whitening.safetensors")


if __name__ == "__main__":
    whitening()
