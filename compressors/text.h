// Small work on text that parsers and messages share.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace acp {

// Without blanks and tabs at both ends.
std::string_view trim(std::string_view text);

// The parts between any of the separators, trimmed; an empty text has one empty part. Views into `text`.
std::vector<std::string_view> split(std::string_view text, std::string_view separators);

// "a, b, c"
std::string join(std::span<const std::string> words, std::string_view separator = ", ");

}  // namespace acp
