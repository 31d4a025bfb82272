// Names as the user writes them: how they compare, and what is said about an unknown one.
#pragma once

#include <span>
#include <string>
#include <string_view>

namespace acp {

// With `_` read as `-`, the form in which names are compared.
std::string fold(std::string_view name);
bool same_name(std::string_view a, std::string_view b);

// "text" in double quotes, for messages.
std::string in_quotes(std::string_view text);

// `unknown KIND "name"; did you mean "near"? known: a, b, c`
std::string unknown_name(std::string_view kind, std::string_view name, std::span<const std::string> known);

}  // namespace acp
