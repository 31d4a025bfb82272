// Whether this process can work on GPUs: libtorch's CUDA part, loaded when it is asked for.
#pragma once

namespace acp::cuda {

// Whether this build has the CUDA parts.
bool built();

// Loads libtorch's CUDA part into the process, once, and looks for a GPU. Before torch is used otherwise.
// ConfigError says what is missing and what to do: a build without CUDA, a library, a GPU.
void require();

// The GPUs that this process sees; 0 before require().
int devices();

}  // namespace acp::cuda
