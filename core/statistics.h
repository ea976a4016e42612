#pragma once

#include <map>
#include <string>

namespace deepflow {

// Counters that a forward pass reports (expert load, largest logit, drops). Forward stays pure: a sink is absent during
// replay and evaluation, and what it gathered is reduced once a step.
class StatisticsSink {
 public:
  void add(const std::string& name, double value) { sums_[name] += value; }
  void max(const std::string& name, double value) {
    auto [it, fresh] = maxima_.emplace(name, value);
    if (!fresh && value > it->second) it->second = value;
  }
  const std::map<std::string, double>& sums() const { return sums_; }
  const std::map<std::string, double>& maxima() const { return maxima_; }
  void clear() {
    sums_.clear();
    maxima_.clear();
  }

 private:
  std::map<std::string, double> sums_, maxima_;
};

}  // namespace deepflow
