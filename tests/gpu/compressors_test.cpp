// Compressors on a GPU against their CPU forms and the golden vectors. Ranks are threads that share the GPU.
#include "tests/catch.h"
#include "tests/gpu/gpu.h"
#include "tests/support/device_runs.h"

using namespace acp;
using namespace acp::test;

TEST_CASE("choices and codes of few bits on a GPU give the CPU's gradients", "[gpu]") {
  if (no_gpu()) return;
  compare_selections_and_codes(use_gpu);
}

TEST_CASE("signs with scales on a GPU give the CPU's gradients", "[gpu]") {
  if (no_gpu()) return;
  compare_signs_with_scales(use_gpu);
}

TEST_CASE("low rank on a GPU gives the CPU's gradients", "[gpu]") {
  if (no_gpu()) return;
  compare_low_rank(use_gpu);
}

TEST_CASE("staged methods on a GPU give the CPU's gradients", "[gpu]") {
  if (no_gpu()) return;
  compare_others(use_gpu);
}

TEST_CASE("low rank on a GPU reproduces the recorded numbers", "[gpu]") {
  if (no_gpu()) return;
  replay_low_rank(use_gpu);
}

TEST_CASE("gradients that are not finite end a step on a GPU", "[gpu]") {
  if (no_gpu()) return;
  refuse_what_is_not_finite(use_gpu);
}
