// The choice of backend, the place on the host and the usable cores, from given variables and files.
#include "acp/environment.h"

#include <fstream>
#include <map>
#include <sstream>

#include "comm/error.h"
#include "comm/host.h"
#include "tests/catch.h"
#include "tests/support/temp_folder.h"

using namespace acp;

namespace {

Variables variables(std::map<std::string, std::string> values) {
  return [values = std::move(values)](const std::string& name) -> std::optional<std::string> {
    const auto found = values.find(name);
    return found == values.end() ? std::nullopt : std::optional(found->second);
  };
}

void write(const std::filesystem::path& path, const std::string& text) {
  std::filesystem::create_directories(path.parent_path());
  std::ofstream(path) << text;
}

std::optional<double> quota(const std::filesystem::path& root, const std::string& membership) {
  std::istringstream lines(membership);
  return quota_cores(root, lines);
}

}  // namespace

TEST_CASE("the backend: what is asked for, then ACP_BACKEND, then the launcher", "[unit][context]") {
  CHECK(choose_backend("", variables({})) == "local");
  CHECK(choose_backend("auto", variables({})) == "local");
  CHECK(choose_backend("", variables({{"RANK", "0"}, {"WORLD_SIZE", "2"}})) == "tcp");
  CHECK(choose_backend("", variables({{"RANK", "0"}})) == "local");
  CHECK(choose_backend("", variables({{"WORLD_SIZE", "2"}})) == "local");
  for (const char* name : {"OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "PMIX_RANK", "PMI_RANK"}) {
    CHECK(choose_backend("", variables({{name, "1"}})) == "mpi");
    CHECK(choose_backend("", variables({{name, "1"}, {"RANK", "0"}, {"WORLD_SIZE", "2"}})) == "tcp");
    CHECK(choose_backend("", variables({{name, "1"}, {"ACP_BACKEND", "tcp"}})) == "tcp");
    CHECK(choose_backend("local", variables({{name, "1"}, {"ACP_BACKEND", "tcp"}})) == "local");
    CHECK(choose_backend("auto", variables({{name, "1"}, {"ACP_BACKEND", "auto"}})) == "mpi");
  }
  CHECK(choose_backend("nccl", variables({})) == "nccl");
}

TEST_CASE("an unknown backend: the known ones and the nearest, and where it came from", "[unit][context]") {
  CHECK_THROWS_WITH(choose_backend("tpc", variables({})),
                    ContainsSubstring("\"tpc\"") && ContainsSubstring("did you mean \"tcp\"?") &&
                        ContainsSubstring("auto, local, mpi, nccl, tcp"));
  CHECK_THROWS_WITH(choose_backend("", variables({{"ACP_BACKEND", "gloo"}})),
                    ContainsSubstring("ACP_BACKEND") && ContainsSubstring("\"gloo\""));
  CHECK_THROWS_AS(choose_backend("MPI ", variables({})), ConfigError);
}

TEST_CASE("the place on the host comes from the launcher's variables", "[unit][context]") {
  CHECK_FALSE(local_place(variables({})));
  CHECK_FALSE(local_place(variables({{"LOCAL_RANK", "1"}})));
  const auto torchrun = local_place(variables({{"LOCAL_RANK", "1"}, {"LOCAL_WORLD_SIZE", "4"}}));
  REQUIRE(torchrun);
  CHECK(torchrun->rank == 1);
  CHECK(torchrun->size == 4);
  const auto mpi =
      local_place(variables({{"OMPI_COMM_WORLD_LOCAL_RANK", "2"}, {"OMPI_COMM_WORLD_LOCAL_SIZE", "3"}}));
  REQUIRE(mpi);
  CHECK(mpi->rank == 2);
  CHECK(mpi->size == 3);
  CHECK_THROWS_WITH(local_place(variables({{"LOCAL_RANK", "4"}, {"LOCAL_WORLD_SIZE", "4"}})),
                    ContainsSubstring("LOCAL_RANK=4") && ContainsSubstring("LOCAL_WORLD_SIZE=4"));
  CHECK_THROWS_WITH(local_place(variables({{"LOCAL_RANK", "one"}, {"LOCAL_WORLD_SIZE", "4"}})),
                    ContainsSubstring("LOCAL_RANK=\"one\""));
  CHECK_THROWS_AS(local_place(variables({{"LOCAL_RANK", "-1"}, {"LOCAL_WORLD_SIZE", "4"}})), ConfigError);
  CHECK_THROWS_AS(local_place(variables({{"LOCAL_RANK", "1x"}, {"LOCAL_WORLD_SIZE", "4"}})), ConfigError);
}

TEST_CASE("quotas of control groups, version 2: the least on the way up", "[unit][context]") {
  const TempFolder folder;
  CHECK_FALSE(quota(folder.path(), "0::/a/b\n"));
  write(folder.path() / "a/b/cpu.max", "max 100000\n");
  CHECK_FALSE(quota(folder.path(), "0::/a/b\n"));
  write(folder.path() / "a/cpu.max", "150000 100000\n");
  CHECK(quota(folder.path(), "0::/a/b\n") == 1.5);
  write(folder.path() / "cpu.max", "800000 100000\n");
  CHECK(quota(folder.path(), "0::/a/b\n") == 1.5);
  CHECK(quota(folder.path(), "0::/\n") == 8.0);
  CHECK(quota(folder.path(), "0::/not/visible/here\n") == 8.0);
}

TEST_CASE("quotas of control groups, version 1", "[unit][context]") {
  const TempFolder folder;
  const std::string membership = "5:memory:/x\n4:cpu,cpuacct:/job\n3:cpuset:/\nnonsense\n";
  CHECK_FALSE(quota(folder.path(), membership));
  write(folder.path() / "cpu,cpuacct/job/cpu.cfs_quota_us", "-1\n");
  write(folder.path() / "cpu,cpuacct/job/cpu.cfs_period_us", "100000\n");
  CHECK_FALSE(quota(folder.path(), membership));
  write(folder.path() / "cpu,cpuacct/job/cpu.cfs_quota_us", "300000\n");
  CHECK(quota(folder.path(), membership) == 3.0);
  CHECK_FALSE(quota(folder.path(), "4:cpuacct,cpuset:/job\n"));
}

TEST_CASE("this process may use some cores, on some machine", "[unit][context]") {
  CHECK(usable_cores() >= 1);
  CHECK(host_identity() == host_identity());
  CHECK_FALSE(host_identity().empty());
}
