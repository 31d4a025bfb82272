// Runs a test case once for every form of the kernels that the processor has:
//   const UseForm form(GENERATE(from_range(kernels::forms())));
#pragma once

#include "compressors/kernels/simd.h"

namespace acp {

class UseForm {
 public:
  explicit UseForm(kernels::Form form) { kernels::use(form); }
  ~UseForm() { kernels::use(kernels::Form::avx512); }
  UseForm(const UseForm&) = delete;
  UseForm& operator=(const UseForm&) = delete;
};

}  // namespace acp
