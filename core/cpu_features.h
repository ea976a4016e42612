#pragma once

#include <cstdint>
#include <string>

namespace deepflow {

// Which compiled variant of the CPU kernels runs. Each includes the ones before it. AMX is used through oneDNN; our own
// kernels run their AVX-512 variant there, with BF16 products where the CPU has them.
enum class CpuIsa : uint8_t { kAvx2, kAvx512, kAvx512Bf16 };

struct CpuFeatures {
  bool avx2 = false, fma = false, f16c = false;
  bool avx512 = false;  // F, BW, DQ, VL
  bool avx512_vnni = false;
  bool avx512_bf16 = false;
  bool amx_bf16 = false;  // the CPU has it and the kernel grants it
  std::string model;      // as /proc/cpuinfo names it
};

CpuFeatures detect_cpu();
// Best variant of this machine; throws ConfigError when it has not even AVX2 and FMA.
CpuIsa best_isa(const CpuFeatures& cpu);
const char* name_of(CpuIsa isa);                // "avx2", "avx512", "avx512_bf16"
CpuIsa isa_from_name(const std::string& name);  // throws ConfigError

}  // namespace deepflow
