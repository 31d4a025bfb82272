// Where the sources of the tests lie.
#pragma once

#include <filesystem>

// The checkout that was built. In one place, so that no other object depends on the checkout's path and a
// compiler cache serves every clone.
std::filesystem::path source_root();
