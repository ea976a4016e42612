#include "data/tokenizer_json_parts.h"

#include "data/pretokenizer_regex.h"
#include "data/pretokenizer_scan.h"

namespace deepflow {

namespace {

[[noreturn]] void refuse_type(const JsonNode& node) {
  node.at("type").fail(fmt::format("is {:?}, which is not supported", node.type()));
}

// {"String": "..."} or {"Regex": "..."}.
std::string literal(const JsonNode& pattern) {
  pattern.only({"String", "Regex"});
  if (!pattern.has("String")) pattern.fail("is a Regex; only a String is supported here");
  const std::string& text = pattern.at("String").string();
  if (text.empty()) pattern.fail("is an empty String");
  return text;
}

ReplaceStep replace_step(const JsonNode& node) {
  node.only({"type", "pattern", "content"});
  return {literal(node.at("pattern")), node.at("content").string()};
}

}  // namespace

void read_normalizer(const JsonNode& node, TokenizerSpec& spec) {
  const std::string type = node.type();
  if (type == "Sequence") {
    node.only({"type", "normalizers"});
    const JsonNode all = node.at("normalizers");
    for (size_t i = 0; i < all.array_size(); ++i) read_normalizer(all.at(i), spec);
  } else if (type == "NFC") {
    node.only({"type"});
    spec.normalizer.emplace_back(NfcStep{});
  } else if (type == "Prepend") {
    node.only({"type", "prepend"});
    spec.normalizer.emplace_back(PrependStep{node.at("prepend").string()});
  } else if (type == "Replace") {
    spec.normalizer.emplace_back(replace_step(node));
  } else {
    refuse_type(node);
  }
}

namespace {

void read_split(const JsonNode& node, TokenizerSpec& spec) {
  node.only({"type", "pattern", "behavior", "invert"});
  const JsonNode pattern = node.at("pattern");
  pattern.only({"String", "Regex"});
  SplitStep step;
  step.pattern = pattern.has("Regex") ? pattern.at("Regex").string() : escape_pattern(literal(pattern));
  step.invert = node.boolean("invert", false);
  const std::string& behavior = node.at("behavior").string();
  if (behavior == "Removed") {
    step.behavior = SplitBehavior::kRemoved;
  } else if (behavior == "Isolated") {
    step.behavior = SplitBehavior::kIsolated;
  } else if (behavior == "MergedWithPrevious") {
    step.behavior = SplitBehavior::kMergedWithPrevious;
  } else if (behavior == "MergedWithNext") {
    step.behavior = SplitBehavior::kMergedWithNext;
  } else if (behavior == "Contiguous") {
    step.behavior = SplitBehavior::kContiguous;
  } else {
    node.at("behavior").fail(fmt::format("is {:?}, which is not supported", behavior));
  }
  spec.pre_tokenizer.emplace_back(step);
}

void read_metaspace(const JsonNode& node, TokenizerSpec& spec) {
  node.only({"type", "replacement", "prepend_scheme", "split", "add_prefix_space", "str_rep"});
  MetaspaceStep step;
  step.replacement = node.at("replacement").string();
  if (step.replacement.empty()) node.at("replacement").fail("is empty, expected one character");
  step.split = node.boolean("split", true);
  const std::string scheme = node.has("prepend_scheme")               ? node.at("prepend_scheme").string()
                             : node.boolean("add_prefix_space", true) ? "always"
                                                                      : "never";
  if (scheme == "always") {
    step.prepend = MetaspaceStep::Prepend::kAlways;
  } else if (scheme == "first") {
    step.prepend = MetaspaceStep::Prepend::kFirst;
  } else if (scheme == "never") {
    step.prepend = MetaspaceStep::Prepend::kNever;
  } else {
    node.at("prepend_scheme").fail(fmt::format("is {:?}, expected always, first or never", scheme));
  }
  spec.pre_tokenizer.emplace_back(step);
}

}  // namespace

void read_pre_tokenizer(const JsonNode& node, TokenizerSpec& spec) {
  const std::string type = node.type();
  if (spec.byte_level) node.fail("comes after ByteLevel, which must be the last step");
  if (type == "Sequence") {
    node.only({"type", "pretokenizers"});
    const JsonNode all = node.at("pretokenizers");
    for (size_t i = 0; i < all.array_size(); ++i) read_pre_tokenizer(all.at(i), spec);
  } else if (type == "ByteLevel") {
    node.only({"type", "add_prefix_space", "trim_offsets", "use_regex"});
    if (node.boolean("add_prefix_space", true)) spec.pre_tokenizer.emplace_back(PrefixSpaceStep{});
    if (node.boolean("use_regex", true))
      spec.pre_tokenizer.emplace_back(SplitStep{std::string(kGpt2Pattern), SplitBehavior::kIsolated, false});
    spec.byte_level = true;
  } else if (type == "Split") {
    read_split(node, spec);
  } else if (type == "Digits") {
    node.only({"type", "individual_digits"});
    const bool individual = node.boolean("individual_digits", false);
    spec.pre_tokenizer.emplace_back(SplitStep{individual ? "\\p{N}" : "\\p{N}+", SplitBehavior::kIsolated, false});
  } else if (type == "Metaspace") {
    read_metaspace(node, spec);
  } else {
    refuse_type(node);
  }
}

namespace {

void append_ids(const JsonNode& template_node, const std::string& name, std::vector<TokenId>& out) {
  const JsonNode all = template_node.at("special_tokens");
  all.need_object();
  const auto it = all.value().find(name);
  if (it == all.value().end()) all.fail(fmt::format("has no {:?}, which the template uses", name));
  const JsonNode ids = all.at(name.c_str()).at("ids");
  for (size_t i = 0; i < ids.array_size(); ++i)
    out.push_back(static_cast<TokenId>(ids.at(i).integer(0, (1 << 30) - 1)));
}

void read_template(const JsonNode& node, TokenizerSpec& spec) {
  node.only({"type", "single", "pair", "special_tokens"});
  const JsonNode single = node.at("single");
  std::vector<TokenId> before, after;
  int sequences = 0;
  for (size_t i = 0; i < single.array_size(); ++i) {
    const JsonNode piece = single.at(i);
    piece.only({"Sequence", "SpecialToken"});
    if (piece.has("Sequence")) {
      const JsonNode sequence = piece.at("Sequence");
      if (sequence.at("id").string() != "A" || ++sequences > 1)
        sequence.fail("is not the one sequence A of a single text");
    } else {
      append_ids(node, piece.at("SpecialToken").at("id").string(), sequences ? after : before);
    }
  }
  if (sequences != 1) single.fail("does not name the sequence A");
  spec.prefix.insert(spec.prefix.begin(), before.begin(), before.end());
  spec.suffix.insert(spec.suffix.end(), after.begin(), after.end());
}

}  // namespace

void read_post_processor(const JsonNode& node, TokenizerSpec& spec) {
  const std::string type = node.type();
  if (type == "Sequence") {
    node.only({"type", "processors"});
    const JsonNode all = node.at("processors");
    for (size_t i = 0; i < all.array_size(); ++i) read_post_processor(all.at(i), spec);
  } else if (type == "TemplateProcessing") {
    read_template(node, spec);
  } else if (type == "ByteLevel") {
    node.only({"type", "add_prefix_space", "trim_offsets", "use_regex"});  // these only move offsets
  } else {
    refuse_type(node);
  }
}

namespace {

void read_strip(const JsonNode& node, TokenizerSpec& spec) {
  node.only({"type", "content", "start", "stop"});
  if (node.at("stop").integer(0, 1 << 30) != 0) node.at("stop").fail("is not supported, expected 0");
  spec.decoder.strip = node.at("content").string();
  spec.decoder.strip_left = node.at("start").integer(0, 1 << 30);
}

void read_decoder_step(const JsonNode& node, TokenizerSpec& spec, bool& fused) {
  const std::string type = node.type();
  DecoderSpec& decoder = spec.decoder;
  if (type == "Sequence") {
    node.only({"type", "decoders"});
    const JsonNode all = node.at("decoders");
    for (size_t i = 0; i < all.array_size(); ++i) read_decoder_step(all.at(i), spec, fused);
  } else if (type == "ByteLevel") {
    node.only({"type", "add_prefix_space", "trim_offsets", "use_regex"});
    if (!spec.byte_level) node.fail("does not fit a pre_tokenizer without ByteLevel");
  } else if (type == "Replace" && !fused && !decoder.byte_fallback) {
    decoder.replace.push_back(replace_step(node));
  } else if (type == "ByteFallback" && !fused) {
    node.only({"type"});
    decoder.byte_fallback = true;
  } else if (type == "Fuse") {
    node.only({"type"});
    fused = true;
  } else if (type == "Strip" && fused) {
    read_strip(node, spec);
  } else if (type == "Metaspace" && !fused) {
    node.only({"type", "replacement", "prepend_scheme", "split", "add_prefix_space", "str_rep"});
    decoder.metaspace = node.at("replacement").string();
    if (decoder.metaspace.empty()) node.at("replacement").fail("is empty, expected one character");
    decoder.drop_first_metaspace = node.has("prepend_scheme") ? node.at("prepend_scheme").string() != "never"
                                                              : node.boolean("add_prefix_space", true);
  } else {
    refuse_type(node);
  }
}

}  // namespace

void read_decoder(const JsonNode& node, TokenizerSpec& spec) {
  bool fused = false;
  read_decoder_step(node, spec, fused);
}

}  // namespace deepflow
