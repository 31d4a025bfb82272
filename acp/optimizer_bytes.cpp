// Optimizers go through libtorch's archives.
#include "acp/optimizer_bytes.h"

#include <cxxabi.h>
#include <torch/optim/optimizer.h>
#include <torch/serialize/input-archive.h>
#include <torch/serialize/output-archive.h>

#include <cstdlib>
#include <memory>
#include <sstream>
#include <typeinfo>

#include "comm/error.h"

namespace acp {

namespace {

std::string class_name(const torch::optim::Optimizer& optimizer) {
  const char* mangled = typeid(optimizer).name();
  const std::unique_ptr<char, decltype(&std::free)> name(
      abi::__cxa_demangle(mangled, nullptr, nullptr, nullptr), &std::free);
  return name ? name.get() : mangled;
}

std::string first_line(const std::exception& e) {
  const auto* torch_error = dynamic_cast<const c10::Error*>(&e);
  const std::string text = torch_error != nullptr ? torch_error->what_without_backtrace() : e.what();
  return text.substr(0, text.find('\n'));
}

}  // namespace

std::string optimizer_to_bytes(const torch::optim::Optimizer& optimizer) {
  std::ostringstream stream;
  try {
    torch::serialize::OutputArchive archive;
    optimizer.save(archive);
    archive.save_to(stream);
  } catch (const std::exception& e) {
    throw ConfigError("the optimizer " + class_name(optimizer) +
                      " cannot be saved in this state (libtorch: " + first_line(e) +
                      "); an LBFGS can be saved and broadcast only before its first step");
  }
  std::string bytes = std::move(stream).str();
  if (!optimizer.state().empty()) {
    std::istringstream copy(bytes);
    torch::serialize::InputArchive archive;
    archive.load_from(copy);
    if (archive.keys().empty()) {
      throw ConfigError("the optimizer " + class_name(optimizer) +
                        " has state but saves nothing: override save() and load() in it");
    }
  }
  return bytes;
}

void optimizer_from_bytes(torch::optim::Optimizer& optimizer, std::string_view bytes) {
  try {
    std::istringstream stream{std::string(bytes)};
    torch::serialize::InputArchive archive;
    archive.load_from(stream);
    optimizer.state().clear();
    optimizer.load(archive);
  } catch (const std::exception& e) {
    throw Error("the saved state does not fit the optimizer " + class_name(optimizer) +
                " (libtorch: " + first_line(e) + ")");
  }
}

std::vector<std::string> describe_optimizer(const torch::optim::Optimizer& optimizer) {
  std::vector<std::string> lines{class_name(optimizer)};
  for (std::size_t g = 0; g < optimizer.param_groups().size(); ++g) {
    const auto& params = optimizer.param_groups()[g].params();
    for (std::size_t i = 0; i < params.size(); ++i) {
      std::ostringstream line;
      line << "parameter " << g << "." << i << " " << params[i].sizes() << " "
           << at::toString(params[i].scalar_type());
      lines.push_back(line.str());
    }
  }
  return lines;
}

}  // namespace acp
