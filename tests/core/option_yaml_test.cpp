#include "core/option_yaml.h"

#include "core/error.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

namespace deepflow {
namespace {

std::string error(const std::string& yaml) {
  try {
    parse_yaml(yaml, "r.yaml");
  } catch (const ConfigError& e) {
    return e.what();
  }
  return "no error";
}

std::string file_error(const std::string& file) {
  try {
    read_yaml_file(file);
  } catch (const ConfigError& e) {
    return e.what();
  }
  return "no error";
}

std::string repeated(const std::string& text, size_t count) {
  std::string result;
  for (size_t i = 0; i < count; ++i) result += text;
  return result;
}

TEST(OptionYaml, KeepsOrderLinesAndQuotes) {
  const OptionValue root = parse_yaml("b: 1\na:\n  - x\n  - 'y'\nc:\n", "r.yaml");
  ASSERT_EQ(root.entries.size(), 3u);
  EXPECT_EQ(root.entries[0].key, "b");
  EXPECT_EQ(root.entries[1].place.line, 2);
  EXPECT_EQ(root.entries[1].value.items[1].place.line, 4);
  EXPECT_FALSE(root.entries[1].value.items[0].quoted);
  EXPECT_TRUE(root.entries[1].value.items[1].quoted);
  EXPECT_EQ(root.entries[2].value.kind, OptionValue::Kind::kNull);
  EXPECT_EQ(root.entries[2].value.place.prefix(), "r.yaml:5: ");
}

TEST(OptionYaml, DuplicateKeys) {
  EXPECT_EQ(error("optim: {lr: 1}\nsteps: 3\noptim: {lr: 2}\n"),
            "r.yaml:3: optim is given twice; it stands already on line 1");
  EXPECT_EQ(error("optim:\n  lr: 1\n  adam:\n    eps: 1\n    eps: 2\n"),
            "r.yaml:5: optim.adam.eps is given twice; it stands already on line 4");
}

TEST(OptionYaml, InvalidText) {
  EXPECT_EQ(error("a: 1\nb: {c: 2\n"), "r.yaml:2: invalid YAML: end of map flow not found");
  EXPECT_EQ(error("a: \"b\n"), "r.yaml:1: invalid YAML: a quote is not closed");
  EXPECT_EQ(error("a: \"b\nc: 1\n"), "r.yaml:2: invalid YAML: a quote is not closed");
  EXPECT_EQ(error("a: 1\n\tb: 2\n"), "r.yaml:2: invalid YAML: illegal tab when looking for indentation");
  EXPECT_EQ(error("? [a, b]\n: 1\n"), "r.yaml:1: invalid YAML: a bracket is not closed or a key is not text");
  EXPECT_EQ(error("a: *nowhere\n"), "r.yaml:1: invalid YAML: the referenced anchor is not defined");
  EXPECT_EQ(error("a: &x [*x]\n"), "r.yaml:1: invalid YAML: an alias stands inside its own anchor");
  EXPECT_EQ(error("a: 1\n---\nb: 1\n"), "r.yaml:3: a second YAML document begins here; a recipe is one document");
  EXPECT_EQ(error("a: 1\nb: caf\xe9\n"), "r.yaml:2: is not UTF-8 text");
  EXPECT_EQ(error("a: caf\xc3\xa9\n"), "no error");
  EXPECT_EQ(error(std::string("a: \0", 4)), "r.yaml:1: is not UTF-8 text");
}

TEST(OptionYaml, BytesThatStandForNoCharacterAreNoText) {
  for (const char* bytes : {"\xc0\x80", "\xe0\x80\x80", "\xed\xa0\x80", "\xf0\x80\x80\x80", "\xf4\x90\x80\x80",
                            "\xf5\x80\x80\x80", "\xe2\x82", "\x80"}) {
    EXPECT_EQ(error("a: " + std::string(bytes) + "\n"), "r.yaml:1: is not UTF-8 text");
  }
  for (const char* text : {"\xe0\xa0\x80", "\xed\x9f\xbf", "\xf0\x90\x80\x80", "\xf4\x8f\xbf\xbf"}) {
    EXPECT_EQ(error("a: " + std::string(text) + "\n"), "no error");
  }
}

// yaml-cpp 0.7 makes single bytes of these two, which would be replaced when the recipe is written.
TEST(OptionYaml, EscapesThatAreNoCharacterAreRefused) {
  for (const char* escape : {"\\N", "\\_"}) {
    EXPECT_EQ(error("a: 1\nb: \"" + std::string(escape) + "\"\n"),
              "r.yaml:2: an escape stands for no character; write the character itself");
  }
  EXPECT_EQ(parse_yaml("\"\\x85\\L\"", "r.yaml").text, "\xc2\x85\xe2\x80\xa8");
}

TEST(OptionYaml, TextLikeTheBoundsOfADocumentIsQuoted) {
  for (const char* text : {"---", "--- a", "...", "... b"}) {
    OptionValue map = OptionValue::map();
    map.entries.push_back({text, {}, OptionValue::scalar(text), ""});
    const OptionValue again = parse_yaml(to_yaml(map, false), "r.yaml");
    ASSERT_EQ(again.entries.size(), 1u);
    EXPECT_EQ(again.entries[0].key, text);
    EXPECT_EQ(again.entries[0].value.text, text);
    EXPECT_EQ(parse_yaml(to_yaml(OptionValue::scalar(text), false), "r.yaml").text, text);
  }
}

TEST(OptionYaml, ControlCharactersCannotBreakTheLine) {
  EXPECT_EQ(error("\"a\\nb\": 1\n\"a\\nb\": 2\n"), "r.yaml:2: a\\x0ab is given twice; it stands already on line 1");
}

TEST(OptionYaml, DeepNestingIsRefused) {
  EXPECT_EQ(error(repeated("[", 40) + repeated("]", 40)), "r.yaml:1: the recipe is nested more than 32 levels deep");
  EXPECT_EQ(error(repeated("{a: ", 40) + repeated("}", 40)), "r.yaml:1: the recipe is nested more than 32 levels deep");
  EXPECT_EQ(error(repeated("- ", 500000)), "r.yaml:1: the recipe is nested more than 32 levels deep");
  EXPECT_EQ(error(repeated("[", 1000000)), "r.yaml:1: invalid YAML: a bracket is not closed or a key is not text");
  EXPECT_EQ(error(repeated("{", 1000000)), "r.yaml:1: invalid YAML: a bracket is not closed or a key is not text");
}

TEST(OptionYaml, AliasBombsAreRefused) {
  std::string bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n";
  for (int i = 1; i < 12; ++i) {
    bomb += fmt::format("a{}: &a{} [{}]\n", i, i, repeated(fmt::format("*a{}, ", i - 1), 10));
  }
  EXPECT_EQ(error(bomb), "r.yaml:5: the recipe has more than 20000 values");
  std::string wide = "a: &a " + std::string(500000, 'x') + "\nb: [";
  for (int i = 0; i < 1000; ++i) wide += "*a, ";
  EXPECT_EQ(error(wide + "]\n"), "r.yaml:2: the recipe has more than 20000 values");
}

TEST(OptionYaml, AliasesMayBeUsed) {
  const OptionValue root = parse_yaml("a: &a [1, 2]\nb: *a\n", "r.yaml");
  EXPECT_EQ(root.entries[1].value.items[1].text, "2");
}

TEST(OptionYaml, HugeTextIsRefused) {
  EXPECT_EQ(error(repeated("- 1\n", 30000)), "r.yaml:20000: the recipe has more than 20000 values");
  EXPECT_EQ(error(repeated("# nothing\n", 200000)), "r.yaml: is larger than 1048576 bytes, no recipe");
  EXPECT_EQ(file_error("/dev/zero"), "/dev/zero: is larger than 1048576 bytes, no recipe");
}

TEST(OptionYaml, UnreadableFiles) {
  EXPECT_EQ(file_error("/nowhere/r.yaml"), "/nowhere/r.yaml: cannot be read: No such file or directory");
  EXPECT_EQ(file_error("/tmp"), "/tmp: cannot be read: Is a directory");
}

// Whatever the bytes, the answer is a tree or one line of ConfigError.
TEST(OptionYaml, EveryDamageGivesATreeOrOneLine) {
  const std::string good =
      "model: {family: llama, layers: 6}\noptim:\n  lr: 2e-3  # peak\n  betas: &b [0.9, 0.95]\n"
      "data:\n  train: [{store: \"a.h5\", weight: .7}, 'b']\nx: *b\ny: |\n  text\nz: !!str 3\n";
  ASSERT_EQ(error(good), "no error");
  uint64_t state = 1;
  for (int i = 0; i < 20000; ++i) {
    std::string bad = good;
    for (int edit = 0; edit < 3; ++edit) {
      state = state * 6364136223846793005u + 1442695040888963407u;
      const size_t at = (state >> 33) % bad.size();
      const char byte = "[]{}:,-?&*!|>'\"%@`#\n \t\x80\xff"[(state >> 20) % 24];
      if ((state >> 60) % 3 == 0) {
        bad.erase(at, 1);
      } else if ((state >> 60) % 3 == 1) {
        bad.insert(at, 1, byte);
      } else {
        bad[at] = byte;
      }
    }
    const std::string message = error(bad);
    ASSERT_EQ(message.find('\n'), std::string::npos) << bad;
  }
}

TEST(OptionYaml, FlowTextIsOneLine) {
  const OptionValue root = parse_yaml("- {store: a.h5, weight: 0.7}\n- b\n", "r.yaml");
  EXPECT_EQ(to_flow_yaml(root), "[{store: a.h5, weight: 0.7}, b]");
}

}  // namespace
}  // namespace deepflow
