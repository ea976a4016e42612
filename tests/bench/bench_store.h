#pragma once

#include "core/context.h"
#include "kernels/ops/elementwise.h"
#include "kernels/ops/matmul.h"
#include "kernels/ops/pack_forms.h"
#include "tests/kernels/single_pack.h"

#include <algorithm>
#include <chrono>
#include <deque>
#include <map>
#include <string>
#include <utility>
#include <vector>

namespace deepflow {

// Parameters for programs that time single ops: masters, gradients and derived forms are made once and then only
// handed out; gradients are overwritten unless told otherwise.
class BenchStore final : public ParameterStore {
 public:
  BenchStore(Runtime& runtime, DType compute) : runtime_(runtime), compute_(compute) {}

  Pack& add(const std::string& name, const Shape& shape, Role role, int members = 1) {
    Pack& pack = packs_.emplace_back();
    testing::make_single_pack(parameters_.emplace_back(), pack, name, shape, role);
    for (int m = 1; m < members; ++m) testing::add_member(parameters_.emplace_back(), pack);
    Entry& e = entries_[&pack];
    for (Tensor* t : {&e.master, &e.gradient}) {
      *t = Tensor::empty(runtime_.memory(), {pack.physical_rows, pack.cols}, DType::kF32);
      fill(runtime_, *t, 0.01f);
    }
    return pack;
  }

  Tensor acquire(Pack& pack, Form form, Stream&) override {
    Entry& e = entries_.at(&pack);
    if (form == Form::kMaster) return e.master;
    Tensor& t = e.forms[form];
    if (t.defined()) return t;
    if (form == Form::kRowMajor) {
      t = Tensor::empty(runtime_.memory(), {pack.physical_rows, pack.cols}, compute_);
      copy(runtime_, e.master, t);
      return t;
    }
    t = empty_form(runtime_, pack, compute_, form);
    derive_form(runtime_, pack, e.master, compute_, form, t);
    return t;
  }
  void release(Pack&) override {}
  GradientTarget gradient(Pack& pack) override { return {entries_.at(&pack).gradient, accumulate_}; }
  void contributed(Pack&) override {}
  void set_accumulate(bool on) { accumulate_ = on; }  // gradients are added to from now on

 private:
  struct Entry {
    Tensor master, gradient;
    std::map<Form, Tensor> forms;
  };
  Runtime& runtime_;
  DType compute_;
  bool accumulate_ = false;
  std::deque<Parameter> parameters_;
  std::deque<Pack> packs_;
  std::map<const Pack*, Entry> entries_;
};

inline double seconds_now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

inline double median(std::vector<double> v) {
  std::sort(v.begin(), v.end());
  return v[v.size() / 2];
}

// Normal numbers, the same for the same key.
inline Tensor normal_tensor(Runtime& runtime, const Shape& shape, DType dtype, uint64_t key) {
  Tensor values = Tensor::empty(runtime.memory(), shape, DType::kF32);
  fill_normal(runtime, values, random_site(key, "bench", 0), 1, 0, 0);
  if (dtype == DType::kF32) return values;
  Tensor result = Tensor::empty(runtime.memory(), shape, dtype);
  copy(runtime, values, result);
  return result;
}

}  // namespace deepflow
