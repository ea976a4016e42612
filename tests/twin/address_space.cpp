#include "tests/twin/address_space.h"

#include <link.h>
#include <sys/mman.h>

#include <cstdio>
#include <cstdlib>
#include <utility>
#include <vector>

namespace twin {

namespace {

using Range = std::pair<uintptr_t, uintptr_t>;

int collect_constants(dl_phdr_info* info, size_t, void* ranges) {
  for (int i = 0; i < info->dlpi_phnum; ++i) {
    const auto& segment = info->dlpi_phdr[i];
    const bool read_only = segment.p_type == PT_LOAD && !(segment.p_flags & PF_W);
    if (!read_only && segment.p_type != PT_GNU_RELRO) continue;
    const uintptr_t begin = info->dlpi_addr + segment.p_vaddr;
    static_cast<std::vector<Range>*>(ranges)->push_back({begin, begin + segment.p_memsz});
  }
  return 0;
}

}  // namespace

void* reserve(uintptr_t address, size_t bytes) {
  const int fixed = address ? MAP_FIXED_NOREPLACE : 0;
  void* p = mmap(reinterpret_cast<void*>(address), bytes, PROT_READ | PROT_WRITE,
                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | fixed, -1, 0);
  if (p == MAP_FAILED) {
    perror("twin: cannot reserve address space");
    exit(2);
  }
  return p;
}

void drop_pages(uintptr_t address, size_t bytes) {
  const uintptr_t begin = (address + 4095) & ~uintptr_t{4095}, end = (address + bytes) & ~uintptr_t{4095};
  if (begin < end) madvise(reinterpret_cast<void*>(begin), end - begin, MADV_DONTNEED);
}

bool in_constants(uintptr_t address, size_t bytes) {
  static const std::vector<Range> ranges = [] {
    std::vector<Range> r;
    dl_iterate_phdr(collect_constants, &r);
    return r;
  }();
  for (const auto& [begin, end] : ranges) {
    if (address >= begin && address + bytes <= end) return true;
  }
  return false;
}

}  // namespace twin
