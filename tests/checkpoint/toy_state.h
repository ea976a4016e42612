#pragma once

#include "core/memory.h"
#include "core/state.h"

#include <cstring>
#include <map>
#include <random>
#include <string>
#include <vector>

namespace deepflow::testing {

// State of several dtypes with tensors of several blocks, of one value and of odd sizes.
class ToyState final : public StateOwner {
 public:
  explicit ToyState(unsigned seed) {
    add("frozen", {700, 301}, DType::kF32);
    add("weights", {1023, 513}, DType::kF32);
    add("half", {300, 1001}, DType::kBF16);
    add("codes", {333, 77}, DType::kU8);
    add("experts", {3, 65, 129}, DType::kF32);
    add("bias", {129}, DType::kF32);
    add("step", {1}, DType::kI64);
    change_all(seed);
  }

  void visit_state(const StateVisitor& visit) override {
    for (Item& item : items_) {
      Box whole;
      for (const int64_t extent : item.shape) whole.lo.push_back(0), whole.hi.push_back(extent);
      StateEntry entry{item.name,      item.shape, {whole}, 0, Tensor::wrap(item.bytes.data(), item.shape, item.dtype),
                       Reshard::kSlice};
      visit(entry);
    }
  }
  void state_written() override { ++times_written; }

  void change_all(unsigned seed) {
    for (Item& item : items_) change(item.name, seed);
  }
  // Normal numbers; seed 0: as it was.
  void change(const std::string& name, unsigned seed) {
    if (seed == 0) return;
    Item& item = find(name);
    std::mt19937 random(seed * 977 + static_cast<unsigned>(item.name.size()));
    std::normal_distribution<float> normal(0, 0.02f);
    const size_t n = item.bytes.size() / size_of(item.dtype);
    for (size_t i = 0; i < n; ++i) {
      const float x = normal(random);
      if (item.dtype == DType::kF32) std::memcpy(&item.bytes[4 * i], &x, 4);
      if (item.dtype == DType::kBF16) std::memcpy(&item.bytes[2 * i], &to_bits(x), 2);
      if (item.dtype == DType::kU8) item.bytes[i] = static_cast<char>(random());
      if (item.dtype == DType::kI64) item.bytes[8 * i] = static_cast<char>(seed);
    }
  }
  // f32 values by a few units in the last place.
  void nudge(const std::string& name) {
    Item& item = find(name);
    for (size_t i = 0; i < item.bytes.size(); i += 4) item.bytes[i] = static_cast<char>(item.bytes[i] ^ (i / 4 % 3));
  }
  void rename(const std::string& name, const std::string& to) { find(name).name = to; }

  std::vector<char> bytes() const {
    std::vector<char> all;
    for (const Item& item : items_) all.insert(all.end(), item.bytes.begin(), item.bytes.end());
    return all;
  }
  int64_t num_bytes() const { return static_cast<int64_t>(bytes().size()); }

  int times_written = 0;

 private:
  struct Item {
    std::string name;
    Shape shape;
    DType dtype;
    std::vector<char> bytes;
  };
  static const uint16_t& to_bits(float x) {
    static uint16_t bits;
    return bits = to_bf16(x).bits;
  }
  void add(const char* name, const Shape& shape, DType dtype) {
    items_.push_back(
        {name, shape, dtype, std::vector<char>(static_cast<size_t>(shape.num_elements()) * size_of(dtype))});
  }
  Item& find(const std::string& name) {
    for (Item& item : items_)
      if (item.name == name) return item;
    throw std::out_of_range(name);
  }

  std::vector<Item> items_;
};

}  // namespace deepflow::testing
