// Notes as messages: a fixed header, then the text.
#include "comm/mpi/control.h"

#include <algorithm>
#include <cstring>
#include <memory>

#include "comm/mpi/check.h"

namespace acp::mpi {

namespace {

// Below the eager limit of Open MPI's shared memory (4096 bytes with its own header): such a message leaves
// at once.
constexpr std::size_t longest_note = 3584;
constexpr int note_tag = 1;

struct Header {
  std::int32_t kind, value, waits_for, unused;
  std::uint64_t channel, collectives;
};

std::vector<std::byte> pack(const Note& note) {
  const Header header{
      static_cast<std::int32_t>(note.kind), note.value, note.waits_for, 0, note.channel, note.collectives};
  const std::size_t length = std::min(note.text.size(), longest_note - sizeof header);
  std::vector<std::byte> bytes(sizeof header + length);
  std::memcpy(bytes.data(), &header, sizeof header);
  if (length > 0) std::memcpy(bytes.data() + sizeof header, note.text.data(), length);
  return bytes;
}

Note unpack(const std::byte* data, std::size_t size) {
  Header header;
  std::memcpy(&header, data, sizeof header);
  Note note;
  note.kind = static_cast<Note::Kind>(header.kind);
  note.value = header.value;
  note.waits_for = header.waits_for;
  note.channel = header.channel;
  note.collectives = header.collectives;
  note.text.assign(reinterpret_cast<const char*>(data) + sizeof header, size - sizeof header);
  return note;
}

}  // namespace

Control::Control(Requests& requests, Handler handler)
    : requests_(requests), handler_(std::move(handler)), incoming_(longest_note) {}

void Control::open(MPI_Comm parent) {
  check(MPI_Comm_dup(parent, &comm_), "MPI_Comm_dup");
  check(MPI_Comm_set_errhandler(comm_, MPI_ERRORS_RETURN), "MPI_Comm_set_errhandler");
  check(MPI_Comm_rank(comm_, &rank_), "MPI_Comm_rank");
  check(MPI_Comm_size(comm_, &size_), "MPI_Comm_size");
  post();
}

void Control::close() {
  closing_ = true;
  requests_.cancel(Requests::Kind::note_receive);
  while (requests_.count(Requests::Kind::note_receive) > 0) requests_.test();
  check(MPI_Comm_free(&comm_), "MPI_Comm_free");
}

void Control::post() {
  MPI_Request request = MPI_REQUEST_NULL;
  check(MPI_Irecv(incoming_.data(), static_cast<int>(incoming_.size()), MPI_BYTE, MPI_ANY_SOURCE, note_tag,
                  comm_, &request),
        "MPI_Irecv");
  requests_.add(Requests::Kind::note_receive, request,
                [this](const MPI_Status& status, int code) { arrived(status, code); });
}

void Control::arrived(const MPI_Status& status, int code) {
  if (closing_) return;
  check(code, "MPI_Irecv of a note");
  int count = 0;
  check(MPI_Get_count(&status, MPI_BYTE, &count), "MPI_Get_count");
  if (count < static_cast<int>(sizeof(Header))) return;
  const Note note = unpack(incoming_.data(), static_cast<std::size_t>(count));
  post();
  handler_(status.MPI_SOURCE, note);
}

void Control::send(int peer, const Note& note) {
  auto bytes = std::make_shared<std::vector<std::byte>>(pack(note));
  MPI_Request request = MPI_REQUEST_NULL;
  check(MPI_Isend(bytes->data(), static_cast<int>(bytes->size()), MPI_BYTE, peer, note_tag, comm_, &request),
        "MPI_Isend of a note");
  requests_.add(Requests::Kind::note_send, request, [bytes](const MPI_Status&, int) {});
}

void Control::send_all(const Note& note) {
  for (int peer = 0; peer < size_; ++peer) {
    if (peer != rank_) send(peer, note);
  }
}

}  // namespace acp::mpi
