#include "core/log.h"

#include <spdlog/sinks/stdout_sinks.h>

namespace deepflow {

void start_logging(int rank, int world_size, spdlog::level::level_enum level) {
  auto logger = std::make_shared<spdlog::logger>("deepflow", std::make_shared<spdlog::sinks::stderr_sink_mt>());
  const std::string who = world_size > 1 && rank != 0 ? fmt::format(" rank {}:", rank) : std::string();
  logger->set_pattern("deepflow:" + who + " %v");
  logger->set_level(rank == 0 ? level : std::max(level, spdlog::level::err));
  spdlog::set_default_logger(std::move(logger));
}

}  // namespace deepflow
