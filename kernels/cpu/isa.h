#pragma once

#include "core/cpu_features.h"

// Every kernels/cpu/x.cpp is compiled once per instruction set (kernels/CMakeLists.txt: deepflow_op), each time into a
// namespace of its own that DF_ISA names. Kernel files are pure: pointers and extents in, no tape, no allocation, no
// threads (ops split the rows), and no templates of the standard library, whose instances the linker would share
// between instruction sets.

// In kernels/cpu/x.h: declares the same functions once per instruction set.
#define DF_DECLARE_KERNELS(...) \
  namespace avx2 {              \
  __VA_ARGS__                   \
  }                             \
  namespace avx512 {            \
  __VA_ARGS__                   \
  }                             \
  namespace avx512_bf16 {       \
  __VA_ARGS__                   \
  }

// In kernels/ops/x.cpp: a pointer to the variant that this runtime uses: auto* f = DF_KERNEL(runtime.isa(),
// rms_norm_rows).
#define DF_KERNEL(isa, function)                                                     \
  ((isa) == ::deepflow::CpuIsa::kAvx512Bf16 ? ::deepflow::cpu::avx512_bf16::function \
   : (isa) == ::deepflow::CpuIsa::kAvx512   ? ::deepflow::cpu::avx512::function      \
                                            : ::deepflow::cpu::avx2::function)
