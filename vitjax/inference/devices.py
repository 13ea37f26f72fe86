"""Devices by the names that people give them."""

import jax

from vitjax.errors import FieldError


def devices_named(device: str | None) -> list[jax.Device]:
    """The devices of a kind (cpu, gpu, cuda, rocm, tpu), or the one of a number, such as "cpu:1"; of None all.

    Raises:
        FieldError: there is no such device.
    """
    if device is None:
        return jax.devices()
    kind, _, number = device.lower().partition(":")
    try:
        found = jax.devices(kind)
        return [found[int(number)]] if number or ":" in device else found
    except (RuntimeError, ValueError, IndexError) as error:
        there = ", ".join(f"{each.platform}:{each.id}" for each in jax.devices())
        raise FieldError(f"there is no device {device!r}; by default there are {there}, and cpu as well.") from error
