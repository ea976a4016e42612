#include "core/cpu_features.h"

#include "core/error.h"

#include <sys/syscall.h>
#include <unistd.h>

#include <fstream>

namespace deepflow {
namespace {

constexpr int kArchReqXcompPerm = 0x1023;
constexpr int kXfeatureTileData = 18;

bool flag(const std::string& flags, const char* name) {
  return flags.find(std::string(" ") + name + " ") != std::string::npos;
}

}  // namespace

CpuFeatures detect_cpu() {
  CpuFeatures cpu;
  std::ifstream info("/proc/cpuinfo");
  std::string line, flags;
  while (std::getline(info, line)) {
    const size_t colon = line.find(':');
    if (colon == std::string::npos) continue;
    if (line.rfind("model name", 0) == 0 && cpu.model.empty()) cpu.model = line.substr(colon + 2);
    if (line.rfind("flags", 0) == 0 && flags.empty()) flags = line.substr(colon + 1) + " ";
  }
  cpu.avx2 = flag(flags, "avx2");
  cpu.fma = flag(flags, "fma");
  cpu.f16c = flag(flags, "f16c");
  cpu.avx512 = flag(flags, "avx512f") && flag(flags, "avx512bw") && flag(flags, "avx512dq") && flag(flags, "avx512vl");
  cpu.avx512_vnni = cpu.avx512 && flag(flags, "avx512_vnni");
  cpu.avx512_bf16 = cpu.avx512 && flag(flags, "avx512_bf16");
  cpu.amx_bf16 = flag(flags, "amx_bf16") && syscall(SYS_arch_prctl, kArchReqXcompPerm, kXfeatureTileData) == 0;
  return cpu;
}

CpuIsa best_isa(const CpuFeatures& cpu) {
  if (!cpu.avx2 || !cpu.fma || !cpu.f16c)
    throw ConfigError("this CPU ({}) has no AVX2, FMA and F16C; DeepFlow's CPU kernels need them", cpu.model);
  if (cpu.avx512_bf16) return CpuIsa::kAvx512Bf16;
  return cpu.avx512 ? CpuIsa::kAvx512 : CpuIsa::kAvx2;
}

const char* name_of(CpuIsa isa) {
  switch (isa) {
    case CpuIsa::kAvx2:
      return "avx2";
    case CpuIsa::kAvx512:
      return "avx512";
    case CpuIsa::kAvx512Bf16:
      return "avx512_bf16";
  }
  return "";
}

CpuIsa isa_from_name(const std::string& name) {
  for (CpuIsa isa : {CpuIsa::kAvx2, CpuIsa::kAvx512, CpuIsa::kAvx512Bf16})
    if (name == name_of(isa)) return isa;
  throw ConfigError("{} is not a CPU variant; expected avx2, avx512 or avx512_bf16", name);
}

}  // namespace deepflow
