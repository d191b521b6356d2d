"""What `make gpu-compile` reads and looks for; the compiling itself needs packages that tests do not have."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from gpu_ptxas import WITH_FLOATING, Floating, Row, Usage, floating, usage

import hgpscale

# As ptxas 12.9.86 printed them with `-v` for three tiny kernels, the last with `-maxrregcount=16`.
SHARED = """\
ptxas info    : 8 bytes gmem, 8 bytes cmem[4]
ptxas info    : Compiling entry function 'scan' for 'sm_80'
ptxas info    : Function properties for scan
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 14 registers, used 1 barriers, 512 bytes smem, 464 bytes cmem[0]
ptxas info    : Compile time = 1.921 ms
"""
PLAIN = """\
ptxas info    : 8 bytes gmem
ptxas info    : Compiling entry function 'axpy' for 'sm_90'
ptxas info    : Function properties for axpy
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 14 registers, used 0 barriers
ptxas info    : Compile time = 6.162 ms
"""
SPILLED = """\
ptxas warning : For profile sm_70 adjusting per thread register count of 16 to lower bound of 24
ptxas info    : Overriding maximum register limit 256 for 'many' with  24 of maxrregcount option
ptxas info    : 8 bytes gmem, 8 bytes cmem[4]
ptxas info    : Compiling entry function 'many' for 'sm_70'
ptxas info    : Function properties for many
    352 bytes stack frame, 440 bytes spill stores, 496 bytes spill loads
ptxas info    : Used 24 registers, used 1 barriers, 352 bytes cumulative stack size, 464 bytes cmem[0]
ptxas info    : Compile time = 6.355 ms
"""
# `y[i] = a * x[i] + y[i]` of doubles, as NVVM 12.9 wrote it, most lines on integers left out; the branch is ours.
AXPY = """\
// Based on NVVM 7.0.1
.version 8.8
.target sm_90
.visible .entry axpy(
	.param .f64 axpy_param_0,
	.param .u64 axpy_param_1
)
{
	.reg .b32 	%r<4>;
	.reg .f64 	%fd<5>;

	ld.param.f64 	%fd1, [axpy_param_0];
	ld.param.u64 	%rd1, [axpy_param_5];
	mov.u32 	%r1, %tid.x;
	@%p1 bra 	$L__BB0_2;
	@!%p2 ld.global.f64 	%fd2, [%rd14];
	and.b64  	%rd15, %rd10, %rd4;
$L__BB0_2:
	ld.global.f64 	%fd3, [%rd18];
	fma.rn.f64 	%fd4, %fd2, %fd1, %fd3;
	st.global.f64 	[%rd18], %fd4;
	ret;

}
"""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (SHARED, Usage(14, 512, 0, 0, 0)),
        (PLAIN, Usage(14, 0, 0, 0, 0)),
        (SPILLED, Usage(24, 0, 352, 440, 496)),
    ],
    ids=["shared memory", "neither", "spills"],
)
def test_what_ptxas_prints_is_read(text: str, expected: Usage) -> None:
    assert usage(text) == expected


@pytest.mark.parametrize("text", ["", SHARED + PLAIN, PLAIN.replace("Used 14", "Takes 14")])
def test_what_is_not_about_one_kernel_is_not_read(text: str) -> None:
    with pytest.raises(ValueError, match="kernel"):
        usage(text)


def test_instructions_on_floating_point_numbers_are_counted() -> None:
    assert floating(AXPY) == Floating(5, 5, 1)
    assert floating(AXPY.replace("f64", "f32")) == Floating(5, 0, 1)
    # What does not name its rounding ptxas may contract.
    assert floating(AXPY.replace("fma.rn.f64", "mul.f64")) == Floating(5, 5, 1)
    assert floating(AXPY.replace("fma.rn.f64", "mul.rn.f64")) == Floating(5, 5, 0)
    assert floating(AXPY.replace("f64", "b64").replace("fma.rn.b64", "mad.lo.s64")) == Floating(0, 0, 0)


def test_spills_and_floating_point_numbers_are_wrong() -> None:
    assert Row("k", (8, 0), usage(SHARED), Floating(0, 0, 0)).wrong == ""
    assert Row("k", (8, 0), usage(SPILLED), Floating(0, 0, 0)).wrong == "496 spilled bytes"
    assert Row("k", (8, 0), usage(PLAIN), Floating(5, 5, 0)).wrong == "5 instructions on floating point numbers"
    assert Row("k", (8, 0), error="cannot be compiled").wrong == "cannot be compiled"


def test_filters_may_have_floating_point_numbers_but_no_contraction() -> None:
    assert Row("wavelet.k", (8, 0), usage(PLAIN), Floating(5, 5, 0)).wrong == ""
    assert Row("wavelet.k", (8, 0), usage(PLAIN), Floating(5, 5, 1)).wrong == "1 contracted products and sums"
    assert Row("wavelet.k", (8, 0), usage(SPILLED), Floating(5, 5, 0)).wrong == "496 spilled bytes"
    modules = {name.partition(".")[0] for name in decorated()}
    assert modules - WITH_FLOATING == {"chains", "gldm", "glszm", "memory", "ngtdm", "surface"}
    assert modules >= WITH_FLOATING


def decorated() -> Iterator[str]:
    """Yield the functions under the GPU's `@kernel` in all of hgpscale's source."""
    for path in Path(hgpscale.__file__).parent.rglob("*.py"):
        text = path.read_text()
        for node in ast.walk(ast.parse(text)) if "from hgpscale.kernels.cuda.jit import" in text else ():
            if isinstance(node, ast.FunctionDef) and "kernel" in map(ast.unparse, node.decorator_list):
                yield f"{path.stem}.{node.name}"


def test_all_kernels_are_found_and_launched() -> None:
    gpu_launches = pytest.importorskip("gpu_launches", reason="it needs numba's CUDA target", exc_type=ImportError)
    found = gpu_launches.kernels()
    assert sorted(found) == sorted(decorated())
    launches = gpu_launches.in_the_simulator()
    assert sorted(launches) == sorted(found)
    single, double = ([f"array(float{n}, 3d, C)", f"array(float{n}, 1d, C)"] for n in (32, 64))
    assert [types[:2] for types in launches["wavelet._convolve"]] == [single, double]
    assert launches["ngtdm._sum"] == [
        ["array(int32, 1d, C)", "array(int64, 1d, C)", "array(int64, 1d, C)", "array(int32, 1d, C)"]
    ]


def test_cuda_compiles_through_one_module() -> None:
    sources = Path(hgpscale.__file__).parent.rglob("*.py")
    assert [path.name for path in sources if "cuda.jit(" in path.read_text()] == ["jit.py"]
