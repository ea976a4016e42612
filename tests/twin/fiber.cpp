#include "tests/twin/fiber.h"

#include "tests/twin/address_space.h"

#include <sys/mman.h>

asm(R"(
.text
.globl twin_switch_fiber
.type twin_switch_fiber,@function
twin_switch_fiber:
 pushq %rbp
 pushq %rbx
 pushq %r12
 pushq %r13
 pushq %r14
 pushq %r15
 movq %rsp,(%rdi)
 movq %rsi,%rsp
 popq %r15
 popq %r14
 popq %r13
 popq %r12
 popq %rbx
 popq %rbp
 ret
)");

namespace twin {

void map_stacks() {
  reserve(kStackBase, kStackBytes * kMaxThreads);
  for (unsigned i = 0; i < kMaxThreads; ++i) mprotect(reinterpret_cast<void*>(stack_of(i)), 4096, PROT_NONE);
}

void* fresh_stack(unsigned fiber, void (*entry)()) {
  constexpr int kSavedRegisters = 6;
  auto* top = reinterpret_cast<uintptr_t*>(stack_of(fiber) + kStackBytes - 64);
  *--top = 0;  // where a return address would be: keeps the stack aligned as after a call
  *--top = reinterpret_cast<uintptr_t>(entry);
  for (int i = 0; i < kSavedRegisters; ++i) *--top = 0;
  return top;
}

}  // namespace twin
