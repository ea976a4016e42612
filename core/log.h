#pragma once

#include <spdlog/spdlog.h>

#include <string>

namespace deepflow {

// Log lines go to stderr as "deepflow: message" (warnings and errors say so); stdout is for results.
// Ranks other than 0 log only errors, prefixed with their rank.
void start_logging(int rank, int world_size, spdlog::level::level_enum level);

template <class... A>
void log_info(fmt::format_string<A...> f, A&&... a) {
  spdlog::info(f, std::forward<A>(a)...);
}
template <class... A>
void log_warning(fmt::format_string<A...> f, A&&... a) {
  spdlog::warn(f, std::forward<A>(a)...);
}
template <class... A>
void log_error(fmt::format_string<A...> f, A&&... a) {
  spdlog::error(f, std::forward<A>(a)...);
}

}  // namespace deepflow
