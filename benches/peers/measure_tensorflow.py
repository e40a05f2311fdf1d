#!/usr/bin/env python3
"""One measurement of TensorFlow on the CPU: a tf.function of the whole step, tensors N x H x W x C.

Variants:
  tensorflow        its own kernels (oneDNN)
  tensorflow-xla    compiled by XLA
"""

import os

VARIANTS = ["tensorflow", "tensorflow-xla"]


def main():
    from protocol import arguments, measure, report

    args = arguments(__doc__.splitlines()[0], VARIANTS)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    os.environ["OMP_NUM_THREADS"] = str(args.threads)
    import tensorflow as tf
    from tensorflow_network import build

    tf.config.threading.set_intra_op_parallelism_threads(args.threads)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    tf.random.set_seed(0)
    net = build(args.model, args.image_size)
    images = tf.random.uniform((args.batch, args.image_size, args.image_size, 1))
    labels = tf.random.uniform((args.batch,), 0, 10, tf.int32)
    xla = args.variant == "tensorflow-xla"

    if args.task == "train":
        weights = net.trainable_variables
        velocities = [tf.Variable(tf.zeros_like(weight)) for weight in weights]

        @tf.function(jit_compile=xla)
        def train(images, labels):
            with tf.GradientTape() as tape:
                logits = net(images, training=True)
                losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
                loss = tf.reduce_mean(losses)
            for weight, velocity, gradient in zip(weights, velocities, tape.gradient(loss, weights)):
                # Weight decay on weights and not on biases, as ours.
                decayed = gradient + 5e-4 * weight if weight.shape.rank > 1 else gradient
                velocity.assign(0.9 * velocity + decayed)
                weight.assign_sub(0.01 * velocity)
            return loss

        def step():
            train(images, labels).numpy()

    else:
        infer = tf.function(lambda images: net(images, training=False), jit_compile=xla)

        def step():
            infer(images).numpy()

    report(args, measure(args, step), {"tensorflow": tf.__version__})


if __name__ == "__main__":
    main()
