#pragma once

#include "core/parameter_registry.h"

#include <string>

namespace deepflow {

// A table with one row per token or position ([rows, width], NAME.weight), and the vocabulary head.
Pack* declare_embedding(ParameterRegistry& registry, const std::string& name, int64_t rows, int64_t width,
                        float stddev);
// The head's own matrix, or the embedding's again when they are tied (Press & Wolf 2017).
Pack* declare_head(ParameterRegistry& registry, int64_t vocabulary, int64_t width, float stddev, Pack* tied_to);

}  // namespace deepflow
