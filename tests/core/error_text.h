#pragma once

#include "core/error.h"

#include <string>

namespace deepflow::testing {

// What f() throws as an Error; "" when it throws none.
template <class F>
std::string error_of(F&& f) {
  try {
    f();
  } catch (const Error& e) {
    return e.what();
  }
  return "";
}

}  // namespace deepflow::testing
