#include "tests/twin/thread_block.h"

#include <cstdint>
#include <string>

// What gcc calls for -fsanitize=bounds,alignment,shift,signed-integer-overflow,integer-divide-by-zero in kernels.
namespace {

struct SourceLocation {  // as gcc lays it out
  const char* file;
  uint32_t line, column;
};

void found(twin::Kind kind, const char* what, const void* data, const void* code) {
  const auto* at = static_cast<const SourceLocation*>(data);
  const std::string text = std::string(what) + " at " + at->file + ":" + std::to_string(at->line);
  if (twin::running) twin::stop_grid(kind, text, code);
  twin::report(kind, text, code);
}

}  // namespace

#define TWIN_UNDEFINED_HOOK(name, kind, what, ...)                    \
  void __ubsan_handle_##name(void* data, __VA_ARGS__) {               \
    found(twin::Kind::kind, what, data, __builtin_return_address(0)); \
  }

extern "C" {
TWIN_UNDEFINED_HOOK(out_of_bounds, kOutOfBounds, "index outside its array", void*)
TWIN_UNDEFINED_HOOK(type_mismatch_v1, kMisaligned, "access through a misaligned pointer", void*)
TWIN_UNDEFINED_HOOK(pointer_overflow, kUndefined, "pointer overflow", void*, void*)
TWIN_UNDEFINED_HOOK(add_overflow, kUndefined, "integer overflow in an addition", void*, void*)
TWIN_UNDEFINED_HOOK(sub_overflow, kUndefined, "integer overflow in a subtraction", void*, void*)
TWIN_UNDEFINED_HOOK(mul_overflow, kUndefined, "integer overflow in a product", void*, void*)
TWIN_UNDEFINED_HOOK(negate_overflow, kUndefined, "integer overflow in a negation", void*)
TWIN_UNDEFINED_HOOK(divrem_overflow, kUndefined, "integer division by zero", void*, void*)
TWIN_UNDEFINED_HOOK(shift_out_of_bounds, kUndefined, "shift by more than the width", void*, void*)
}
