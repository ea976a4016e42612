#pragma once

#include <cstddef>
#include <map>
#include <span>
#include <string>
#include <vector>

namespace deepflow {

// Counters that a forward pass reports (expert load, largest logit, drops). Forward stays pure: a sink is absent during
// replay and evaluation, and what it gathered is reduced once a step.
class StatisticsSink {
 public:
  void add(const std::string& name, double value) { sums_[name] += value; }
  // A row of counters: those of one name are always as many.
  void add(const std::string& name, std::span<const double> values) {
    std::vector<double>& row = rows_[name];
    row.resize(values.size());
    for (size_t i = 0; i < values.size(); ++i) row[i] += values[i];
  }
  void max(const std::string& name, double value) {
    auto [it, fresh] = maxima_.emplace(name, value);
    if (!fresh && value > it->second) it->second = value;
  }
  const std::map<std::string, double>& sums() const { return sums_; }
  const std::map<std::string, std::vector<double>>& rows() const { return rows_; }
  const std::map<std::string, double>& maxima() const { return maxima_; }
  void clear() {
    sums_.clear();
    rows_.clear();
    maxima_.clear();
  }

 private:
  std::map<std::string, double> sums_, maxima_;
  std::map<std::string, std::vector<double>> rows_;
};

}  // namespace deepflow
