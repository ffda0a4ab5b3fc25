"""Tensors handed to `append`, or given as static arrays: right bit for bit, or an error that says what to do."""

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tests.harness.one_value import SIX, recorded, refusal
from trajectory_store.blocks.static_array import checked_static
from trajectory_store.dtypes import DTYPES
from trajectory_store.errors import SpecError

torch = pytest.importorskip("torch")


def tensors() -> dict[str, tuple[Callable[[Any], Any], Any]]:
    """Name → (what makes it of six floats, the values that are recorded)."""
    zeros = np.zeros((2, 3), np.float32)
    return {
        "plain": (lambda six: six, SIX),
        "with a gradient": (lambda six: six.clone().requires_grad_() * 1, SIX),
        "a parameter": (torch.nn.Parameter, SIX),
        "negative bit": (lambda six: torch.complex(six, six).conj().imag, -SIX),
        "expanded": (lambda six: six[0].expand(2, 3), SIX[[0, 0]]),
        "transposed": (lambda six: six.T.contiguous().T, SIX),
        "in inference": (lambda six: torch.inference_mode()(lambda: six + 0)(), SIX),
        "a zero tensor": (lambda _: torch._efficientzerotensor((2, 3)), zeros),
        "a subclass": (lambda six: six.as_subclass(type("Sub", (torch.Tensor,), {})), SIX),
        "in a list": (lambda six: [six[0].clone().requires_grad_(), six[1]], SIX),
        "beside numbers": (lambda six: [six[0], [3.0, 4, np.float32(5)]], SIX),
    }


@pytest.mark.parametrize("what", tensors())
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_tensors_that_have_values(what: str, dtype: str) -> None:
    """Bit for bit; of bfloat16 too, which numpy does not have."""
    make, expected = tensors()[what]

    value = make(torch.from_numpy(SIX.copy()))
    if dtype == "bfloat16":
        value = (
            [part if isinstance(part, list) else part.bfloat16() for part in value]
            if isinstance(value, list)
            else (
                torch._neg_view(torch.from_numpy(SIX.copy()).bfloat16()) if what == "negative bit" else value.bfloat16()
            )
        )
        if what == "beside numbers":
            value[1] = [3.0, 4, 5.0]

    assert recorded(value, dtype).tobytes() == expected.astype(DTYPES[dtype]).tobytes()


def freed(tensor: Any) -> Any:
    """What FSDP does to a parameter between two steps."""
    tensor = tensor.clone()
    tensor.untyped_storage().resize_(0)
    return tensor


def faked(dtype: Any) -> Any:
    from torch._subclasses import FakeTensorMode

    with FakeTensorMode():
        return torch.zeros(2, 3, dtype=dtype)


def masked(six: Any) -> Any:
    from torch.masked import masked_tensor

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return masked_tensor(six, six > 2)


def quantized(six: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.quantize_per_tensor(six, 0.1, 0, torch.quint8)


def half_complex(six: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.complex(six, six).to(torch.complex32)


def sparse(six: Any, how: str) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return getattr(six, how)()


def nested(six: Any, layout: str) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.nested.nested_tensor([six[0], six[1, :2]], layout=getattr(torch, layout))


WITHOUT_VALUES: dict[str, tuple[Callable[[Any], Any], str]] = {
    "meta": (lambda six: six.to("meta"), "meta device"),
    "sparse": (lambda six: sparse(six, "to_sparse"), "to_dense"),
    "csr": (lambda six: sparse(six, "to_sparse_csr"), "to_dense"),
    "mkldnn": (lambda six: sparse(six, "to_mkldnn"), "to_dense"),
    "quantized": (quantized, "dequantize"),
    "float8": (lambda six: six.to(torch.float8_e4m3fn), "float()"),
    "the other float8": (lambda six: six.to(torch.float8_e5m2), "float()"),
    "complex": (lambda six: torch.complex(six, six), "imaginary"),
    "conjugated": (lambda six: torch.complex(six, six).conj(), "imaginary"),
    "half complex": (half_complex, "complex32"),
    "fake": (lambda _: faked(torch.float32), "FakeTensor"),
    "fake bfloat16": (lambda _: faked(torch.bfloat16), "FakeTensor"),
    "nested": (lambda six: nested(six, "strided"), "to_padded_tensor"),
    "jagged": (lambda six: nested(six, "jagged"), "to_padded_tensor"),
    "masked": (masked, "MaskedTensor"),
    "freed": (freed, "freed"),
    "freed bfloat16": (lambda six: freed(six.bfloat16()), "freed"),
    "uninitialized": (lambda _: torch.nn.LazyLinear(3).weight, "first forward"),
    "one in a list": (lambda six: [six[0], six[1].to("meta")], "meta device"),
}


@pytest.mark.parametrize("what", WITHOUT_VALUES)
def test_tensors_without_plain_values_are_refused(what: str) -> None:
    """With the call that gives some; zeros are recorded for none of them."""
    make, said = WITHOUT_VALUES[what]
    value = make(torch.from_numpy(SIX.copy()))
    assert said in refusal(value)
    with pytest.raises(SpecError, match=r"static array 'ids'"):
        checked_static({"ids": value}, {})


def test_a_tensor_inside_of_a_transform_is_refused() -> None:
    """vmap and grad hand out tensors that stand for others."""
    seen = []

    def loss(six: Any) -> Any:
        seen.append(refusal(six))
        seen.append(refusal(six.bfloat16(), "bfloat16"))
        return six.sum()

    torch.func.grad(loss)(torch.from_numpy(SIX.copy()))
    torch.vmap(loss)(torch.from_numpy(SIX.copy()))
    assert len(seen) == 4


def test_a_share_of_a_tensor_is_refused() -> None:
    """A DTensor holds what one process has; the message has both ways on."""
    distributed = pytest.importorskip("torch.distributed")
    if not distributed.is_available():
        pytest.skip("torch was built without distributed")
    from torch.distributed.tensor import DeviceMesh, Replicate, Shard, distribute_tensor
    from torch.testing._internal.distributed.fake_pg import FakeStore

    distributed.init_process_group("fake", rank=0, world_size=2, store=FakeStore())
    try:
        mesh = DeviceMesh("cpu", [0, 1])
        for dtype in ("float32", "bfloat16"):
            six = torch.from_numpy(SIX.copy()).to(getattr(torch, dtype))
            for placement in (Shard(0), Replicate()):
                said = refusal(distribute_tensor(six, mesh, [placement], src_data_rank=None), dtype)
                assert "full_tensor()" in said
                assert "to_local()" in said
    finally:
        distributed.destroy_process_group()
