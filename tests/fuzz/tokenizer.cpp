// tokenizer.json, tokenizer_config.json and a text that the tokenizer encodes.
#include "data/tokenizer.h"

#include "core/error.h"
#include "tests/fuzz/fuzz.h"

namespace deepflow::fuzz {
namespace {

constexpr const char* kText = " Hello, w\xc3\xb6rld!\n\n 123456 <a>  it's \xff\xe2\x82 <|end|>";

}  // namespace

void run_input(std::string_view bytes) {
  std::vector<std::string> pieces = split(bytes, 3);
  pieces.resize(3);
  const auto tokenizer = parse_tokenizer(pieces[0], pieces[1], "tokenizer.json");
  expect(parse_tokenizer(tokenizer->json(), tokenizer->config_json(), "again")->digest() == tokenizer->digest(),
         "what is written is the same tokenizer");
  for (const std::string& text : {pieces[2], std::string(kText)}) {
    for (const EncodeOptions options : {EncodeOptions{}, EncodeOptions{.match_special = false, .add_special = true}}) {
      const std::vector<TokenId> ids = tokenizer->encode(text, options);
      for (const TokenId id : ids) {
        expect(id >= 0 && id < tokenizer->vocabulary_size(), "an id is inside the vocabulary");
        tokenizer->token_bytes(id);
      }
      tokenizer->decode(ids);
      tokenizer->decode(ids, true);
    }
  }
}

std::vector<std::string> seeds(const std::string&) {
  const std::string byte_level =
      R"({"version":"1.0","truncation":null,"padding":null,"added_tokens":[{"id":9,"content":"<|end|>",)"
      R"("single_word":false,"lstrip":true,"rstrip":true,"normalized":false,"special":true},{"id":10,"content":"it",)"
      R"("single_word":true,"normalized":true}],"normalizer":{"type":"NFC"},"pre_tokenizer":{"type":"Sequence",)"
      R"("pretokenizers":[{"type":"Split","pattern":{"Regex":"\\s+(?!\\S)|\\p{L}+|\\p{N}{1,3}| ?[^\\s\\w]+"},)"
      R"("behavior":"Isolated","invert":false},{"type":"ByteLevel","add_prefix_space":false,"trim_offsets":true,)"
      R"("use_regex":false}]},"post_processor":{"type":"TemplateProcessing","single":[{"SpecialToken":{"id":"<|end|>",)"
      R"("type_id":0}},{"Sequence":{"id":"A","type_id":0}}],"pair":[],"special_tokens":{"<|end|>":{"id":"<|end|>",)"
      R"("ids":[9],"tokens":["<|end|>"]}}},"decoder":{"type":"ByteLevel"},"model":{"type":"BPE","dropout":null,)"
      R"("unk_token":null,"continuing_subword_prefix":null,"end_of_word_suffix":null,"fuse_unk":false,)"
      R"("byte_fallback":false,"ignore_merges":true,"vocab":{"H":0,"e":1,"l":2,"o":3,"ll":4,"He":5,"Ġ":6,"Ġw":7,)"
      R"("w":8},"merges":["l l",["H","e"],["Ġ","w"]]}})";
  const std::string characters =
      R"({"version":"1.0","added_tokens":[{"id":0,"content":"<unk>","special":true}],"normalizer":{"type":"Sequence",)"
      R"("normalizers":[{"type":"Prepend","prepend":"_"},{"type":"Replace","pattern":{"String":" "},"content":"_"}]},)"
      R"("pre_tokenizer":{"type":"Metaspace","replacement":"_","prepend_scheme":"first","split":true},)"
      R"("decoder":{"type":"Sequence","decoders":[{"type":"Replace","pattern":{"String":"_"},"content":" "},)"
      R"({"type":"ByteFallback"},{"type":"Fuse"},{"type":"Strip","content":" ","start":1,"stop":0}]},"model":{)"
      R"("type":"BPE","unk_token":"<unk>","fuse_unk":true,"byte_fallback":true,"vocab":{"<unk>":0,"_":1,"l":2,"o":3,)"
      R"("lo":4,"<0xE2>":5,"<0x82>":6},"merges":["l o"]}})";
  const std::string digits =
      R"({"added_tokens":[],"pre_tokenizer":{"type":"Sequence","pretokenizers":[{"type":"Digits",)"
      R"("individual_digits":true},{"type":"ByteLevel"}]},"model":{"vocab":{"1":0,"2":1,"12":2},"merges":["1 2"]}})";
  const std::string config = R"({"bos_token":{"content":"<|end|>"},"eos_token":"<|end|>","add_bos_token":true})";
  return {join({byte_level, config, "Hello"}), join({characters, config, "lolo l"}), join({digits, "{}", "1212"})};
}

}  // namespace deepflow::fuzz
