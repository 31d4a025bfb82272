// Compressors on a device against their CPU forms: whole steps of several ranks. For GPUs, and for their
// kernels on the host.
#pragma once

#include <functional>
#include <memory>

#include "tests/support/rank_driver.h"

namespace acp {

inline const Shapes device_net{{"a", {40, 90}}, {"b", {50}}, {"empty", {3, 0}},
                               {"c", {31}},     {"one", {}}, {"d", {16, 3, 5, 5}}};

// Makes the device the one in use, as long as what it returns lives.
using UseDevice = std::function<std::shared_ptr<void>()>;

// Six steps, some with gradients missing, must give what the CPU gives: gradients, flags and state to the
// tolerance (relative to the largest number; state to ten times that), and the same bits on all ranks.
void compare_with_cpu(const UseDevice& use, const std::string& spec, int ranks, double tolerance,
                      const std::string& memory = "", at::ScalarType type = at::kFloat,
                      const std::string& granularity = "");

// The methods whose kernels choose and pack, to the bit; those with sums in another order; low rank.
void compare_selections_and_codes(const UseDevice& use);
void compare_signs_with_scales(const UseDevice& use);
void compare_low_rank(const UseDevice& use);
// What is staged, or is libtorch's.
void compare_others(const UseDevice& use);

// Golden vectors of ACP-SGD and Power-SGD.
void replay_low_rank(const UseDevice& use);

// A rank whose gradient has NaN or infinity: every rank hears of it.
void refuse_what_is_not_finite(const UseDevice& use);

// The largest difference, relative to the largest number of b, or to `least` if that is more.
double device_distance(const at::Tensor& a, const at::Tensor& b, double least = 0);

}  // namespace acp
