// Any torch optimizer as bytes and back: what broadcast_optimizer_state() sends and checkpoints keep.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace torch::optim {
class Optimizer;
}

namespace acp {

// Options and state by the optimizer's own save(). ConfigError if it cannot be saved, in one line: what
// libtorch said, or that it has state but saves nothing (a class of the user's that does not override save()
// and load()).
std::string optimizer_to_bytes(const torch::optim::Optimizer& optimizer);

// Replaces options and state; a parameter that had state and has none in `bytes` ends without. Error, in one
// line, if they are of another optimizer or damaged; the state is then undefined.
void optimizer_from_bytes(torch::optim::Optimizer& optimizer, std::string_view bytes);

// Class, and the shapes of each group's parameters: equal for optimizers that can exchange their bytes.
std::vector<std::string> describe_optimizer(const torch::optim::Optimizer& optimizer);

}  // namespace acp
