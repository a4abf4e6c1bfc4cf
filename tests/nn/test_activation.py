"""The ReLU of the networks: Paddle's in value and gradient, in less memory."""

import numpy as np
import paddle
import paddle.nn.functional as F

from paddleskel.nn.activation import relu

VALUES = np.float32([-2, -0.0, 0, 1e-30, 3, 1e38, -np.inf])


def gradients(function):
    """(output, gradient of the input) where the input is a sum, as in the networks, and the output is used twice."""
    x = paddle.to_tensor(VALUES, stop_gradient=False)
    y = function(x + 0.0)
    weight = paddle.arange(1, 1 + len(VALUES), dtype="float32")
    (y * weight + 2 * y).sum().backward()
    return y.numpy(), x.grad.numpy()


def test_value_and_gradient_are_those_of_relu():
    for ours, paddles in zip(gradients(relu), gradients(F.relu)):
        np.testing.assert_array_equal(ours, paddles)


def test_nothing_of_the_input_is_kept():
    before = paddle.to_tensor(VALUES, stop_gradient=False) + 0.0
    after = relu(before)
    assert after._is_shared_buffer_with(before)
    np.testing.assert_array_equal(before.numpy(), after.numpy())


def test_nan_stays_visible():
    assert np.isnan(relu(paddle.to_tensor([float("nan")]) + 0.0).item())
