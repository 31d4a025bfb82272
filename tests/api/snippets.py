#!/usr/bin/env python3
"""Turns the C++ blocks of a page into one source file, so that the build fails when the page is out of date.

usage: snippets.py PAGE OUTPUT

A block with a main() stands alone in a namespace, one that opens a namespace is a file as it is; any other is the
body of a function that is given what the page's first program has: a context, a model, an optimizer, a batch and a
tensor x.
"""

import re
import sys

PREAMBLE = """// Made from {page} by tests/api/snippets.py.
#include <ctime>
#include <iostream>

#include <acp/acp.h>
#include <torch/torch.h>
{includes}
#pragma GCC diagnostic ignored "-Wunused-but-set-variable"
#pragma GCC diagnostic ignored "-Wunused-variable"
#pragma GCC diagnostic ignored "-Wunused-parameter"

struct SnippetBatch {{
  torch::Tensor x, y;
}};
inline torch::Tensor loss(torch::nn::Module&, const SnippetBatch&) {{
  return torch::zeros({{}});
}}
"""

FUNCTION = """
// Block {number}, line {line}
void snippet_{number}(acp::Context& context, const std::shared_ptr<torch::nn::Module>& model,
               acp::DistributedOptimizer<torch::optim::SGD>& optimizer, const SnippetBatch& batch, torch::Tensor x) {{
  {{
#line {line} "{page}"
{code}
  }}
}}
"""

PROGRAM = """
namespace program_{number} {{
#line {line} "{page}"
{code}
}}  // namespace program_{number}
"""

FILE = """
// Block {number}
#line {line} "{page}"
{code}
"""


def main():
    page, output = sys.argv[1:3]
    text = open(page, encoding="utf-8").read()
    includes, parts = set(), []
    for number, block in enumerate(re.finditer(r"^```cpp\n(.*?)^```", text, re.DOTALL | re.MULTILINE)):
        line = text.count("\n", 0, block.start(1)) + 1
        code = block.group(1)
        includes.update(re.findall(r"^#include .*$", code, re.MULTILINE))
        code = re.sub(r"^#include .*$", "", code, flags=re.MULTILINE)
        if "int main(" in code:
            form, code = PROGRAM, code.replace("int main(", "int run(")
        elif re.search(r"^namespace ", code, re.MULTILINE):
            form = FILE
        else:
            form = FUNCTION
        parts.append(form.format(number=number, line=line, page=page, code=code.rstrip()))
    if not parts:
        sys.exit(f"{page} has no C++ blocks")
    with open(output, "w", encoding="utf-8") as out:
        out.write(PREAMBLE.format(page=page, includes="\n".join(sorted(includes))))
        out.write("".join(parts))


main()
