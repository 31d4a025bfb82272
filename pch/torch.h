// Precompiled header of the models, the programs and the API tests.
#include <torch/torch.h>
