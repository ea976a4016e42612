#include "optim/matrix_sets.h"

#include "core/error.h"

#include <algorithm>
#include <cstring>
#include <map>
#include <tuple>

namespace deepflow {
namespace {

// A part as ranks tell each other of it: plain numbers.
struct TravellingPart {
  int64_t parameter, matrix, row_begin, row_end, col_begin, col_end;
};
// Of this rank's, where it lies.
struct Place {
  size_t piece;
  int64_t begin;
};
struct OwnParts {
  std::vector<TravellingPart> parts;
  std::vector<Place> places;
};
using MatrixId = std::pair<int64_t, int64_t>;  // parameter by its number in the registry, matrix in it

void add_parts(OwnParts& own, int64_t number, size_t piece, const Box& box) {
  const size_t dims = box.lo.size();
  if (dims == 1) {
    own.parts.push_back({number, 0, box.lo[0], box.hi[0], 0, 1});
    own.places.push_back({piece, 0});
    return;
  }
  const int64_t first = dims > 2 ? box.lo[0] : 0, last = dims > 2 ? box.hi[0] : 1;
  const int64_t rows = box.hi[dims - 2] - box.lo[dims - 2], cols = box.hi[dims - 1] - box.lo[dims - 1];
  for (int64_t m = first; m < last; ++m) {
    own.parts.push_back({number, m, box.lo[dims - 2], box.hi[dims - 2], box.lo[dims - 1], box.hi[dims - 1]});
    own.places.push_back({piece, (m - first) * rows * cols});
  }
}

OwnParts own_parts(const OptimizerDomain& domain, const std::function<bool(const Parameter&)>& selects) {
  std::map<const Parameter*, int64_t> numbers;
  for (const Parameter& p : domain.store.registry().parameters())
    numbers.emplace(&p, static_cast<int64_t>(numbers.size()));
  OwnParts own;
  for (size_t i = 0; i < domain.pieces.size(); ++i)
    if (selects(*domain.pieces[i].parameter))
      add_parts(own, numbers.at(domain.pieces[i].parameter), i, domain.pieces[i].box);
  return own;
}

std::map<MatrixId, std::vector<MatrixPart>> parts_of_all(const OptimizerDomain& domain, const OwnParts& own) {
  const size_t size = sizeof(TravellingPart);
  std::vector<std::string> of_rank = {
      std::string(reinterpret_cast<const char*>(own.parts.data()), own.parts.size() * size)};
  if (domain.domains) of_rank = gather_texts(domain.domains->world(), of_rank.front(), "parts of matrices");
  std::map<MatrixId, std::vector<MatrixPart>> all;
  for (size_t r = 0; r < of_rank.size(); ++r)
    for (size_t at = 0; at < of_rank[r].size(); at += size) {
      TravellingPart p;
      std::memcpy(&p, of_rank[r].data() + at, size);
      all[{p.parameter, p.matrix}].push_back({static_cast<int>(r), p.row_begin, p.row_end, p.col_begin, p.col_end});
    }
  return all;
}

// Parts of the same columns, one below the other from row 0 on: every rank that has the first rows begins a set. Copies
// on other ranks may be cut at other rows, so a part is continued by whichever begins where it ends.
std::vector<std::vector<MatrixPart>> sets_of(std::vector<MatrixPart> parts) {
  std::stable_sort(parts.begin(), parts.end(), [](const MatrixPart& a, const MatrixPart& b) {
    return std::tie(a.col_begin, a.row_begin) < std::tie(b.col_begin, b.row_begin);
  });
  std::vector<std::vector<MatrixPart>> sets;
  for (size_t begin = 0; begin < parts.size();) {
    size_t end = begin, set = 0;
    while (end < parts.size() && parts[end].col_begin == parts[begin].col_begin) ++end;
    std::multimap<int64_t, const MatrixPart*> waiting;  // by first row
    for (size_t i = begin; i < end; ++i) waiting.emplace(parts[i].row_begin, &parts[i]);
    while (!waiting.empty()) {
      if (set == sets.size()) sets.emplace_back();
      for (auto next = waiting.begin(); next != waiting.end();) {
        sets[set].push_back(*next->second);
        waiting.erase(next);
        const int64_t end_row = sets[set].back().row_end;
        next = waiting.lower_bound(end_row);
        if (next != waiting.end() && next->first != end_row) break;
      }
      ++set;
    }
    begin = end;
  }
  return sets;
}

// Deals matrices to those who have a part of them, each to the one with the least work so far.
class Owners {
 public:
  explicit Owners(const std::function<double(int64_t, int64_t)>& work) : work_(work) {}
  void choose(MatrixSet& set) {
    set.owner = set.parts.front().rank;
    for (const MatrixPart& part : set.parts)
      if (load_[part.rank] < load_[set.owner]) set.owner = part.rank;
    load_[set.owner] += work_(set.rows, set.cols);
    if (set.is_split()) set.turn = turns_[set.owner]++;
  }

 private:
  const std::function<double(int64_t, int64_t)>& work_;
  std::map<int, double> load_;
  std::map<int, int64_t> turns_;
};

}  // namespace

std::vector<MatrixSet> find_matrix_sets(const OptimizerDomain& domain,
                                        const std::function<bool(const Parameter&)>& selects,
                                        const std::function<double(int64_t, int64_t)>& work) {
  const OwnParts own = own_parts(domain, selects);
  const int me = domain.domains ? domain.domains->world().rank() : 0;
  std::map<MatrixId, Place> places;
  for (size_t i = 0; i < own.parts.size(); ++i) places[{own.parts[i].parameter, own.parts[i].matrix}] = own.places[i];

  Owners owners(work);
  std::vector<MatrixSet> result;
  for (const auto& [id, parts] : parts_of_all(domain, own)) {
    const Parameter& p = domain.store.registry().parameters()[static_cast<size_t>(id.first)];
    for (std::vector<MatrixPart>& found : sets_of(parts)) {
      MatrixSet set;
      set.parameter = &p;
      const bool is_vector = p.spec.shape.num_dims() < 2;
      set.rows = is_vector ? p.spec.shape[0] : p.spec.shape[p.spec.shape.num_dims() - 2];
      set.cols = is_vector ? 1 : p.spec.shape.cols();
      set.parts = std::move(found);
      int64_t elements = 0;
      for (const MatrixPart& part : set.parts) elements += part.num_elements();
      DF_ASSERT(!domain.domains || elements == set.rows * set.cols, "{}: {} elements of {}", p.spec.name, elements,
                set.rows * set.cols);
      owners.choose(set);
      for (size_t i = 0; i < set.parts.size(); ++i) {
        if (set.parts[i].rank != me) continue;
        set.mine = i;
        set.piece = places.at(id).piece;
        set.begin = places.at(id).begin;
        result.push_back(set);
        break;
      }
    }
  }
  return result;
}

}  // namespace deepflow
