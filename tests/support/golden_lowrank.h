// Golden vectors of ACP-SGD and Power-SGD: the numbers of the published implementations, step by step.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "comm/communicator.h"

namespace acp::golden {

// The folder of golden vectors: ACP_GOLDEN, else ../shared/golden beside the checkout. Empty, after one line
// on standard output, when there is none.
std::optional<std::filesystem::path> folder();

// Case folders of a set ("acpsgd", "powersgd_ddp", ...) in alphabetical order.
std::vector<std::filesystem::path> cases(const std::filesystem::path& set);

// How many ranks a case was recorded with.
int world_size(const std::filesystem::path& folder);

// Runs the case of `folder` on `communicator` (of that size; every rank calls it), with all tensors in one
// bucket or each in its own, and compares gradients, errors, factors and, where recorded, parameters with the
// tolerances of the set. Empty if all agree, else the first difference.
std::string check(const std::filesystem::path& folder, Communicator& communicator, bool one_bucket);

}  // namespace acp::golden
