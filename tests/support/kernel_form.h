// Runs a test case once for every form of the kernels:
//   const UseForm form(GENERATE(every_form));
// Forms that the processor lacks repeat the widest that it has.
#pragma once

#include "compressors/kernels/simd.h"

#define every_form acp::kernels::Form::plain, acp::kernels::Form::avx2, acp::kernels::Form::avx512

namespace acp {

class UseForm {
 public:
  explicit UseForm(kernels::Form form) { kernels::use(form); }
  ~UseForm() { kernels::use(kernels::Form::avx512); }
  UseForm(const UseForm&) = delete;
  UseForm& operator=(const UseForm&) = delete;
};

}  // namespace acp
