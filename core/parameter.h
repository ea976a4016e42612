#pragma once

#include "core/shape.h"
#include "core/stream.h"
#include "core/tensor.h"

#include <cstdint>
#include <string>
#include <vector>

namespace deepflow {

// What a parameter is for. Optimizer, weight decay and exchange policy follow from it, never from the name.
enum class Role : uint8_t { kMatrix, kExpert, kEmbedding, kHead, kNorm, kBias, kRouter, kBuffer };
const char* name_of(Role role);

// Values are a pure function of (seed, parameter name, logical row, logical column): the same on any layout. Row o of
// expert e is row e * out + o.
struct Initialiser {
  enum class Kind : uint8_t { kNormal, kConstant };
  Kind kind = Kind::kNormal;
  float value = 0;   // constant
  float stddev = 0;  // normal, mean 0
  static Initialiser normal(float stddev) { return {Kind::kNormal, 0, stddev}; }
  static Initialiser constant(float value) { return {Kind::kConstant, value, 0}; }
};

// Dim `dim` is cut in `units` equal parts (heads, experts, rows), dealt in order over the ranks of the ordered mesh
// `axes`. Fewer units than ranks: each unit lives on ranks / units neighbours, and the gradient of each is only a
// partial sum of theirs.
struct Split {
  int dim = 0;
  std::vector<std::string> axes;
  int64_t units = 1;
  bool even =
      true;  // false: rank r of n gets units [units r / n, units (r + 1) / n), a vocabulary that n does not divide
};

// The single description of a logical matrix: from it come gradient sums, sharding, norms, checkpoints and names.
struct ParameterSpec {
  std::string name;  // "layers.0.attention.q.weight": one logical matrix, never a fused one
  Shape shape;       // unpadded; matrices are [out, in], experts [experts, out, in]
  std::vector<Split> placement;
  std::vector<std::string> partial;  // axes over which the local gradient is only a partial sum
  std::vector<int> chunks = {0};     // model chunks that read it, one entry a reading (tied embeddings: two)
  Role role = Role::kMatrix;
  Initialiser init;
};

// Half-open ranges per dim in logical coordinates: the only kind of slice there is.
struct Box {
  std::vector<int64_t> lo, hi;
  int64_t num_elements() const;
  friend bool operator==(const Box&, const Box&) = default;
};

struct MeshAxis {
  std::string name;
  int index = 0, size = 1;
};
using MeshCoord = std::vector<MeshAxis>;  // this rank's place on every axis; absent axes have size 1

// The part of the parameter that lives at `coord`. Throws ConfigError when the units cannot be dealt evenly.
std::vector<Box> local_boxes(const ParameterSpec& spec, const MeshCoord& coord);

struct Pack;

struct Parameter {
  ParameterSpec spec;
  std::vector<Box> boxes;  // what of it is local
  Shape local_shape;
  Pack* pack = nullptr;
  int64_t pack_offset = 0;  // elements from the start of the pack to this parameter's first
};

// Whether two ranks hold the same part, for instance heads that neighbours share.
bool is_same_part(const ParameterSpec& spec, const MeshCoord& a, const MeshCoord& b);

// Parameters that lie side by side in storage, so that one GEMM reads them all (q|k|v, gate|up): rows are concatenated.
// Most packs have one member. Ops refer to packs, never to bytes.
//
// Members [experts, out, in] make a grouped pack, one group for each local expert; all members have the same extents.
// In storage a member follows the other with all its experts; the matrix of group g is the members' g-th parts one
// below the other ([gate_g; up_g]), and the packed forms are those of one group after the other
// (kernels/ops/pack_forms.h).
struct Pack {
  int id = 0;
  std::string name;
  std::vector<Parameter*> members;
  int64_t rows = 0, cols = 0;  // local logical extents; vectors are one row
  int64_t physical_rows = 0;   // rows, padded to 64 for embeddings and heads; padding stays zero
  int64_t groups = 1;          // local experts
  bool local = true;           // some chunk of this rank reads it; others have no storage here
  int uses_per_pass = 0;       // gradient contributions that one micro-batch brings on this rank
  uint64_t version = 1;        // raised by every write to a member: derived forms of older versions are stale

  Role role() const { return members.front()->spec.role; }
  int64_t num_elements() const { return physical_rows * cols; }
  int64_t group_rows() const { return physical_rows / groups; }  // of one group's matrix
};

// Derived from a pack's f32 master, cached per version, counted as memory, no state.
enum class Form : uint8_t {
  kMaster,       // f32, row-major [physical_rows, cols], contiguous
  kRowMajor,     // compute dtype, row-major
  kForward,      // compute dtype, packed as the second operand of x W^T (kernels/ops/matmul.h)
  kInputGrad,    // compute dtype, packed as the second operand of dy W
  kForwardInt8,  // the two above in int8 (kernels/ops/int8_matmul.h)
  kInputGradInt8,
};

struct GradientTarget {
  Tensor value;             // f32, row-major [physical_rows, cols]
  bool accumulate = false;  // false: this is the step's first contribution, it overwrites
};

// Owner of parameter bytes: resident, sharded (ZeRO-3) or offloaded.
class ParameterStore {
 public:
  virtual ~ParameterStore() = default;
  virtual Tensor acquire(Pack& pack, Form form, Stream& stream) = 0;  // value at the current version
  virtual void release(Pack& pack) = 0;
  virtual GradientTarget gradient(Pack& pack) = 0;
  virtual void contributed(Pack& pack) = 0;  // counts down the step's expected uses
};

}  // namespace deepflow
