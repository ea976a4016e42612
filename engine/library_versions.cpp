#define PCRE2_CODE_UNIT_WIDTH 8
#include "engine/library_versions.h"

#include <dlfcn.h>
#include <fmt/format.h>
#include <gnu/libc-version.h>
#include <hdf5.h>
#include <mpi.h>
#include <nlohmann/json.hpp>
#include <oneapi/dnnl/dnnl.hpp>
#include <pcre2.h>
#include <spdlog/version.h>
#include <utf8proc.h>
#include <zlib.h>

namespace deepflow {
namespace {

using Versions = std::vector<std::pair<std::string, std::string>>;

// "Open MPI v4.1.4, package: ..." -> "Open MPI v4.1.4"
std::string mpi_version() {
  char text[MPI_MAX_LIBRARY_VERSION_STRING] = "";
  int length = 0;
  MPI_Get_library_version(text, &length);  // may be called before MPI starts
  const std::string whole = text;
  return whole.substr(0, whole.find_first_of(",\n"));
}

std::string hdf5_version() {
  unsigned major = 0, minor = 0, patch = 0;
  H5get_libversion(&major, &minor, &patch);
  return fmt::format("{}.{}.{}", major, minor, patch);
}

std::string pcre2_version() {
  char text[64] = "";
  pcre2_config(PCRE2_CONFIG_VERSION, text);  // "10.42 2022-12-11"
  const std::string whole = text;
  return whole.substr(0, whole.find(' '));
}

#ifdef DEEPFLOW_CUDA_VERSION

void* open_any(const std::vector<std::string>& names) {
  for (const std::string& name : names)
    for (const std::string& path : {name, DEEPFLOW_CUDA_LIBRARY_DIR "/" + name})
      if (void* library = dlopen(path.c_str(), RTLD_LAZY | RTLD_LOCAL)) return library;
  return nullptr;
}

std::string dotted(size_t version) {
  return fmt::format("{}.{}.{}", version / 10000, version / 100 % 100, version % 100);
}

// The version that a function without arguments returns.
std::string version_of(const std::vector<std::string>& names, const char* function) {
  void* const library = open_any(names);
  if (!library) return "not found";
  const auto get = reinterpret_cast<size_t (*)()>(dlsym(library, function));
  return get ? dotted(get()) : "unknown";
}

// The version that a function writes.
int written_version(const std::vector<std::string>& names, const char* function) {
  void* const library = open_any(names);
  const auto get = library ? reinterpret_cast<int (*)(int*)>(dlsym(library, function)) : nullptr;
  int version = 0;
  return get && get(&version) == 0 ? version : 0;
}

void add_cuda_versions(Versions& versions) {
  versions.emplace_back("CUDA", DEEPFLOW_CUDA_VERSION);
  const int driver = written_version({"libcuda.so.1"}, "cuDriverGetVersion");
  versions.emplace_back("CUDA driver",
                        driver > 0 ? fmt::format("serves CUDA {}.{}", driver / 1000, driver % 1000 / 10) : "not found");
  versions.emplace_back("cuBLASLt", version_of({"libcublasLt.so.13", "libcublasLt.so.12"}, "cublasLtGetVersion"));
  versions.emplace_back("cuDNN", version_of({"libcudnn.so.9"}, "cudnnGetVersion"));
  const int nccl = written_version({"libnccl.so.2"}, "ncclGetVersion");
  versions.emplace_back("NCCL", nccl > 0 ? dotted(static_cast<size_t>(nccl)) : "not found");
}

#endif

}  // namespace

std::vector<std::pair<std::string, std::string>> library_versions() {
  const dnnl_version_t* const dnnl = dnnl::version();
  Versions versions = {
      {"MPI", mpi_version()},
      {"oneDNN", fmt::format("{}.{}.{}", dnnl->major, dnnl->minor, dnnl->patch)},
      {"HDF5", hdf5_version()},
      {"PCRE2", pcre2_version()},
      {"utf8proc", utf8proc_version()},
      {"zlib", zlibVersion()},
      {"fmt", fmt::format("{}.{}.{}", FMT_VERSION / 10000, FMT_VERSION / 100 % 100, FMT_VERSION % 100)},
      {"spdlog", fmt::format("{}.{}.{}", SPDLOG_VER_MAJOR, SPDLOG_VER_MINOR, SPDLOG_VER_PATCH)},
      {"nlohmann-json",
       fmt::format("{}.{}.{}", NLOHMANN_JSON_VERSION_MAJOR, NLOHMANN_JSON_VERSION_MINOR, NLOHMANN_JSON_VERSION_PATCH)},
      {"glibc", gnu_get_libc_version()},
  };
#ifdef DEEPFLOW_CUDA_VERSION
  add_cuda_versions(versions);
#endif
  return versions;
}

}  // namespace deepflow
