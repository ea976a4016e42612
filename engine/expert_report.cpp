#include "engine/expert_report.h"

#include <nlohmann/json.hpp>

#include <algorithm>

namespace deepflow {
namespace {

template <class F>
double sum_of(const std::vector<ExpertLoad>& loads, F&& figure) {
  double sum = 0;
  for (const ExpertLoad& load : loads) sum += static_cast<double>(figure(load));
  return sum;
}

}  // namespace

void ExpertReport::step(int64_t step, const std::vector<ExpertLoad>& loads) {
  loads_ = loads;
  if (loads_.empty()) return;
  const auto x = static_cast<double>(step);
  const double sum = sum_of(loads_, [](const ExpertLoad& load) { return load.imbalance(); });
  worst_.points.push_back({x, worst_imbalance()});
  mean_.points.push_back({x, sum / static_cast<double>(loads_.size())});
}

double ExpertReport::worst_imbalance() const {
  double worst = 0;
  for (const ExpertLoad& load : loads_) worst = std::max(worst, load.imbalance());
  return worst;
}

double ExpertReport::dropped_share() const {
  const double all = sum_of(loads_, [](const ExpertLoad& load) { return load.total(); });
  return all > 0 ? sum_of(loads_, [](const ExpertLoad& load) { return load.dropped; }) / all : 0;
}

double ExpertReport::balance_loss() const {
  return sum_of(loads_, [](const ExpertLoad& load) { return load.balance_loss; });
}

double ExpertReport::z_loss() const {
  return sum_of(loads_, [](const ExpertLoad& load) { return load.z_loss; });
}

void ExpertReport::add_to(ProgressFigures& figures) const {
  figures.imbalance = worst_imbalance();
  figures.dropped = dropped_share();
}

nlohmann::json ExpertReport::as_json() const {
  nlohmann::json json = {{"balance_loss", balance_loss()}, {"z_loss", z_loss()}, {"layers", nlohmann::json::array()}};
  for (const ExpertLoad& load : loads_)
    json["layers"].push_back({{"name", load.layer},
                              {"tokens", load.tokens},
                              {"imbalance", load.imbalance()},
                              {"entropy", load.entropy()},
                              {"dropped", load.dropped_share()},
                              {"sent", load.sent}});
  return json;
}

std::vector<TensorboardWriter::Scalar> ExpertReport::scalars() const {
  std::vector<TensorboardWriter::Scalar> scalars;
  if (loads_.empty()) return scalars;
  scalars.push_back({"experts/balance_loss", balance_loss()});
  scalars.push_back({"experts/z_loss", z_loss()});
  for (const ExpertLoad& load : loads_) {
    scalars.push_back({"imbalance/" + load.layer, load.imbalance()});
    scalars.push_back({"entropy/" + load.layer, load.entropy()});
    scalars.push_back({"dropped/" + load.layer, load.dropped_share()});
  }
  return scalars;
}

std::string ExpertReport::picture() const {
  return curves_as_svg("Load of the experts", "step", "largest load / mean load", {worst_, mean_});
}

}  // namespace deepflow
