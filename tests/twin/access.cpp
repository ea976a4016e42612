#include "tests/twin/access.h"

#include "tests/twin/address_space.h"
#include "tests/twin/arena.h"
#include "tests/twin/fiber.h"
#include "tests/twin/shadow.h"
#include "tests/twin/shared_memory.h"
#include "tests/twin/thread_block.h"

#include <cstring>
#include <string>

// Every load and store of a kernel comes through here: the kernels are compiled with -fsanitize=thread, and these are
// the functions that gcc calls then.
namespace twin {

namespace {

struct Use {
  uintptr_t address;
  unsigned bytes;
  bool write, atomic;
  const void* code;
};

uint64_t accesses;

[[noreturn]] void refuse_host_memory(const Use& use) {
  stop_grid(Kind::kWrongSpace,
            std::string(use.write ? "write" : "read") + " of " + std::to_string(use.bytes) + " bytes of " +
                (in_fiber_stacks(use.address) ? "another thread's stack" : "host memory"),
            use.code);
}

void check_space(const Use& use) {
  if (in_device(use.address)) {
    if (const auto fault = check_device(use.address, use.bytes, static_cast<unsigned>(running->stamp >> 48))) {
      stop_grid(fault->kind, fault->text, use.code);
    }
  } else if (in_shared(use.address)) {
    if (!inside_shared_array(use.address, use.bytes)) {
      stop_grid(Kind::kOutOfBounds, "shared memory outside every array of the block", use.code);
    }
  } else {
    const bool readable = in_parameters(use.address, use.bytes) || in_constants(use.address, use.bytes);
    const bool mapped = in_pinned(reinterpret_cast<const void*>(use.address), use.bytes);
    if (!mapped && (use.write || !readable)) refuse_host_memory(use);
  }
}

void use_memory(const Use& use, unsigned alignment) {
  if (!running || use.address - stack_of(running->number) < kStackBytes) return;
  ++accesses;
  if (use.address & (alignment - 1)) {
    stop_grid(Kind::kMisaligned, std::to_string(use.bytes) + "-byte access", use.code);
  }
  check_space(use);
  const bool shared = in_shared(use.address);
  if (!shared && !in_device(use.address)) return;
  touch(shared ? shared_cells(use.address) : device_cells(use.address), use.bytes,
        {running->stamp, barrier_clock, use.write, use.atomic, shared, use.code});
}

template <class T>
uint64_t apply(T* p, AtomicOperation operation, T operand) {
  const T old = *p;
  switch (operation) {
    case AtomicOperation::kAdd:
      *p = static_cast<T>(static_cast<uint64_t>(old) + static_cast<uint64_t>(operand));
      break;
    case AtomicOperation::kMax:
      *p = old > operand ? old : operand;
      break;
    case AtomicOperation::kMin:
      *p = old < operand ? old : operand;
      break;
    case AtomicOperation::kOr:
      *p = old | operand;
      break;
    case AtomicOperation::kExchange:
      *p = operand;
      break;
  }
  return static_cast<uint64_t>(old);
}

}  // namespace

uint64_t accesses_so_far() { return accesses; }

void check_vector(const void* p, size_t bytes) {
  if (running && reinterpret_cast<uintptr_t>(p) % bytes != 0) {
    stop_grid(Kind::kMisaligned, std::to_string(bytes) + "-byte vector access", __builtin_return_address(0));
  }
}

uint64_t atomic_update(void* p, unsigned bytes, AtomicOperation operation, bool is_signed, uint64_t operand) {
  use_memory({reinterpret_cast<uintptr_t>(p), bytes, true, true, __builtin_return_address(0)}, bytes);
  if (bytes == 8) {
    return is_signed ? apply(static_cast<int64_t*>(p), operation, static_cast<int64_t>(operand))
                     : apply(static_cast<uint64_t*>(p), operation, operand);
  }
  return is_signed ? apply(static_cast<int32_t*>(p), operation, static_cast<int32_t>(operand))
                   : apply(static_cast<uint32_t*>(p), operation, static_cast<uint32_t>(operand));
}

}  // namespace twin

#define TWIN_ACCESS_HOOKS(n)                                                                             \
  void __tsan_read##n(void* p) {                                                                         \
    twin::use_memory({reinterpret_cast<uintptr_t>(p), n, false, false, __builtin_return_address(0)}, n); \
  }                                                                                                      \
  void __tsan_write##n(void* p) {                                                                        \
    twin::use_memory({reinterpret_cast<uintptr_t>(p), n, true, false, __builtin_return_address(0)}, n);  \
  }                                                                                                      \
  void __tsan_unaligned_read##n(void* p) {                                                               \
    twin::use_memory({reinterpret_cast<uintptr_t>(p), n, false, false, __builtin_return_address(0)}, 1); \
  }                                                                                                      \
  void __tsan_unaligned_write##n(void* p) {                                                              \
    twin::use_memory({reinterpret_cast<uintptr_t>(p), n, true, false, __builtin_return_address(0)}, 1);  \
  }

extern "C" {
void __tsan_init() {}
void __tsan_vptr_update(void**, void*) {}
void __tsan_vptr_read(void**) {}
TWIN_ACCESS_HOOKS(1)
TWIN_ACCESS_HOOKS(2)
TWIN_ACCESS_HOOKS(4)
TWIN_ACCESS_HOOKS(8)
TWIN_ACCESS_HOOKS(16)
void __tsan_read_range(void* p, unsigned long n) {
  twin::use_memory(
      {reinterpret_cast<uintptr_t>(p), static_cast<unsigned>(n), false, false, __builtin_return_address(0)}, 1);
}
void __tsan_write_range(void* p, unsigned long n) {
  twin::use_memory({reinterpret_cast<uintptr_t>(p), static_cast<unsigned>(n), true, false, __builtin_return_address(0)},
                   1);
}
}
