// The IDX reader and the files below it: what is good is read, and every kind of damage has its message.
#include "models/idx.h"

#include <torch/torch.h>

#include "comm/error.h"
#include "models/file.h"
#include "tests/catch.h"
#include "tests/support/idx_files.h"

namespace acp {
namespace {

using models::read_idx;

// The message of the DataError that reading throws, which names the file.
std::string failure(const std::filesystem::path& file, int dimensions) {
  try {
    read_idx(file, dimensions);
  } catch (const DataError& error) {
    CHECK_THAT(error.what(), ContainsSubstring(file.string()));
    return error.what();
  }
  FAIL("no error from " << file.string());
  return {};
}

TEST_CASE("IDX files are read plain and packed", "[api][data]") {
  const TempFolder temp;
  const FileBytes data{0, 1, 2, 3, 4, 255};
  const FileBytes bytes = idx_bytes(2051, {3, 1, 2}, data);
  // The content tells gzip, so a packed file without the ending is read as well.
  for (const auto& file : {temp.write("plain", bytes), temp.write("packed.gz", gzip(bytes)),
                           temp.write("packed-without-ending", gzip(bytes))}) {
    const models::Idx idx = read_idx(file, 3);
    CHECK(idx.shape == std::vector<std::int64_t>{3, 1, 2});
    CHECK(idx.bytes == data);
  }
  CHECK(read_idx(temp.write("none", idx_bytes(2049, {0}, {})), 1).bytes.empty());
}

TEST_CASE("gzip files of several members are one file", "[api][data]") {
  const TempFolder temp;
  const FileBytes bytes = idx_labels(20);
  FileBytes packed = gzip({bytes.begin(), bytes.begin() + 11});
  const FileBytes rest = gzip({bytes.begin() + 11, bytes.end()});
  packed.insert(packed.end(), rest.begin(), rest.end());
  CHECK(read_idx(temp.write("x.gz", packed), 1).shape == std::vector<std::int64_t>{20});
}

TEST_CASE("damaged IDX files are refused with what was expected and found", "[api][data]") {
  const TempFolder temp;
  const FileBytes good = idx_labels(10);
  SECTION("wrong magic number: images where labels belong") {
    const auto text = failure(temp.write("x", idx_images(2)), 1);
    CHECK_THAT(text, ContainsSubstring("2051"));
    CHECK_THAT(text, ContainsSubstring("2049"));
  }
  SECTION("a header alone, cut") {
    CHECK_THAT(failure(temp.write("x", {0, 0, 8}), 1),
               ContainsSubstring("3 bytes, expected an IDX header of 8"));
  }
  SECTION("truncated") {
    const auto text = failure(temp.write("x", {good.begin(), good.end() - 3}), 1);
    CHECK_THAT(text, ContainsSubstring("7 bytes of data, expected 10"));
    CHECK_THAT(text, ContainsSubstring("truncated"));
  }
  SECTION("something follows") {
    FileBytes longer = good;
    longer.push_back(0);
    CHECK_THAT(failure(temp.write("x", longer), 1), ContainsSubstring("11 bytes of data, expected 10"));
  }
  SECTION("dimensions whose product does not fit 64 bits") {
    const FileBytes huge = idx_bytes(2051, {0xffffffff, 0xffffffff, 0xffffffff}, {1});
    CHECK_THAT(failure(temp.write("x", huge), 3), ContainsSubstring("truncated"));
  }
  SECTION("missing") {
    CHECK_THAT(failure(temp.path() / "absent", 1), ContainsSubstring("No such file"));
  }
  SECTION("a folder") {
    CHECK_THAT(failure(temp.path(), 1), ContainsSubstring("folder"));
  }
}

TEST_CASE("damaged gzip files are refused", "[api][data]") {
  const TempFolder temp;
  const FileBytes good = gzip(idx_images(5));
  SECTION("truncated anywhere") {
    for (const std::size_t size : {std::size_t{5}, std::size_t{20}, good.size() - 9, good.size() - 1}) {
      const auto end = good.begin() + static_cast<std::ptrdiff_t>(size);
      CHECK_THAT(failure(temp.write("x.gz", {good.begin(), end}), 3), ContainsSubstring("truncated"));
    }
  }
  SECTION("a flipped bit fails the check sum") {
    FileBytes bad = good;
    bad[bad.size() - 6] ^= 1;
    CHECK_THAT(failure(temp.write("x.gz", bad), 3), ContainsSubstring("corrupt"));
  }
  SECTION("garbage behind it") {
    FileBytes bad = good;
    bad.insert(bad.end(), {'x', 'y', 'z'});
    CHECK_THAT(failure(temp.write("x.gz", bad), 3), ContainsSubstring("3 bytes of something else"));
  }
  SECTION("not gzip") {
    CHECK_THAT(failure(temp.write("x.gz", idx_images(5)), 3), ContainsSubstring("not gzip"));
  }
  SECTION("empty") {
    CHECK_THAT(failure(temp.write("x.gz", {}), 3), ContainsSubstring("not gzip"));
  }
}

TEST_CASE("the plain file is preferred to the packed one", "[api][data]") {
  const TempFolder temp;
  temp.write("a.gz", {});
  CHECK(models::plain_or_gz(temp.path() / "a").filename() == "a.gz");
  temp.write("a", {});
  CHECK(models::plain_or_gz(temp.path() / "a").filename() == "a");
  CHECK_THROWS_WITH(models::plain_or_gz(temp.path() / "b"), ContainsSubstring("no such file, nor b.gz"));
}

}  // namespace
}  // namespace acp
