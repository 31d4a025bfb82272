// What the ranks tell each other on the control channel, and how the one is found that all others wait for.
#include <algorithm>
#include <set>

#include "comm/deadline.h"
#include "comm/error.h"
#include "comm/mpi/mpi_thread.h"

namespace acp::mpi {

namespace {

using namespace std::chrono_literals;
using std::to_string;

constexpr auto answer_time = 2s;
// After a farewell: what the rank has sent before may still be on its way.
constexpr auto farewell_grace = 2s;

Failure missing(int peer, std::string text) {
  return {Failure::Kind::peer, peer, std::move(text)};
}

std::string ranks_text(const std::vector<int>& ranks) {
  std::string text = ranks.size() == 1 ? "rank " : "ranks ";
  for (std::size_t i = 0; i < ranks.size(); ++i) text += (i > 0 ? ", " : "") + to_string(ranks[i]);
  return text;
}

std::string still_needed(int peer) {
  return "rank " + to_string(peer) + " has ended its part and left, but is still needed";
}

}  // namespace

void MpiThread::heard(int from, const Note& note) {
  const Lock lock(mutex_);
  switch (note.kind) {
    case Note::Kind::abort:
      fail(stopped_by(from, note.text), from);
      return;
    case Note::Kind::farewell:
      left_.emplace(from, Clock::now());
      return;
    case Note::Kind::leaving:
      leaving_[from] = note.value;
      return;
    case Note::Kind::question: {
      Note answer;
      answer.kind = Note::Kind::answer;
      answer.value = note.value;
      answer.waits_for = never_opened;
      if (const auto found = channels_.find(note.channel); found != channels_.end()) {
        const Channel& channel = *found->second;
        const Operation* awaited = channel.awaited;
        answer.collectives = channel.collectives;
        answer.waits_for = channel.closed                                 ? already_closed
                           : awaited == nullptr                           ? nobody
                           : awaited->kind == Operation::Kind::collective ? in_collective
                                                                          : awaited->peer;
      }
      control_.send(from, answer);
      return;
    }
    case Note::Kind::answer:
      if (note.value == question_) answers_[from] = {note.waits_for, note.collectives};
      return;
  }
}

// What the peers say about a channel; those who say nothing in time are not among the answers.
std::map<int, MpiThread::Answer> MpiThread::ask(Lock& lock, const std::vector<int>& peers,
                                                std::uint64_t channel) {
  Note question;
  question.kind = Note::Kind::question;
  question.value = ++question_;
  question.channel = channel;
  answers_.clear();
  lock.unlock();
  for (const int peer : peers) control_.send(peer, question);
  lock.lock();
  const auto limit = Clock::now() + answer_time;
  while (answers_.size() < peers.size() && !failure_ && Clock::now() < limit) {
    if (!turn(lock)) work_.wait_for(lock, 1ms);
  }
  return answers_;
}

// The deadline of `operation` has passed: fails everything, unless it has ended after all.
void MpiThread::look_for_missing(Lock& lock, const std::shared_ptr<Operation>& operation) {
  if (operation->done) return;
  if (operation->kind == Operation::Kind::collective) {
    look_for_missing_in_collective(lock, *operation);
  } else {
    look_for_missing_peer(lock, *operation);
  }
}

// Follows the chain of who waits for whom to its end.
void MpiThread::look_for_missing_peer(Lock& lock, const Operation& operation) {
  const std::string late = " did not take part within " + timeout_text() + ": ";
  const int first = operation.peer;
  std::string chain;
  std::set<int> seen{rank()};
  for (int at = first;;) {
    const std::string who = "rank " + to_string(at);
    if (!seen.insert(at).second) {
      return fail_here(missing(first, "rank " + to_string(first) + late + "ranks wait for each other (rank " +
                                          to_string(rank()) + " for rank " + to_string(first) + chain +
                                          "), so they do different things"));
    }
    const auto answers = ask(lock, {at}, operation.channel->id);
    if (failure_ || operation.done) return;
    const auto answer = answers.find(at);
    if (answer == answers.end()) {
      return fail_here(
          missing(at, who + late + "its process is stopped or its machine cannot be reached" + chain));
    }
    const int next = answer->second.waits_for;
    if (left_.contains(at)) return fail_here(missing(at, still_needed(at) + chain));
    if (next == in_collective) {
      return fail_here(missing(
          at, who + late + "it waits in a collective of MPI, so the ranks do different things" + chain));
    }
    if (next == never_opened)
      return fail_here(missing(at, who + late + "it has not opened this channel" + chain));
    if (next == already_closed)
      return fail_here(missing(at, who + late + "it has closed this channel" + chain));
    if (next < 0)
      return fail_here(missing(at, who + late + "it is missing, stuck, or runs another program" + chain));
    chain += ", rank " + to_string(at) + " waits for rank " + to_string(next);
    at = next;
  }
}

// Asks everybody who has not started this collective.
void MpiThread::look_for_missing_in_collective(Lock& lock, const Operation& operation) {
  std::vector<int> others;
  for (int peer = 0; peer < size(); ++peer) {
    if (peer != rank()) others.push_back(peer);
  }
  const auto answers = ask(lock, others, operation.channel->id);
  if (failure_ || operation.done) return;
  std::vector<int> silent, absent;
  for (const int peer : others) {
    const auto answer = answers.find(peer);
    if (answer == answers.end()) {
      silent.push_back(peer);
    } else if (answer->second.waits_for == never_opened || answer->second.collectives <= operation.number) {
      absent.push_back(peer);
    }
  }
  const std::string late = " did not take part within " + timeout_text() + ": ";
  if (!silent.empty()) {
    fail_here(missing(silent.front(),
                      ranks_text(silent) + late + "stopped, or on a machine that cannot be reached"));
  } else if (!absent.empty()) {
    fail_here(
        missing(absent.front(), ranks_text(absent) + late + "missing, stuck, or running another program"));
  } else {
    fail_here(
        {Failure::Kind::communication, -1,
         std::string(operation.call) + " made no progress within " + timeout_text() +
             " although every rank takes part; do all call it with the same type, size and operation?"});
  }
}

// Whoever waits for a rank that has said farewell need not wait for the deadline.
void MpiThread::look_at_left(Lock& lock) {
  if (left_.empty()) return;
  const auto now = Clock::now();
  if (now - looked_at_left_ < 100ms) return;
  looked_at_left_ = now;
  std::vector<std::shared_ptr<Channel>> channels;
  for (const auto& [id, channel] : channels_) {
    if (channel->awaited != nullptr && now - channel->progress > farewell_grace) channels.push_back(channel);
  }
  for (const auto& channel : channels) {
    const Operation* awaited = channel->awaited;
    if (failure_ || awaited == nullptr) continue;
    std::vector<int> needed;
    for (const auto& [peer, when] : left_) {
      if (now - when > farewell_grace && (awaited->peer < 0 || awaited->peer == peer)) needed.push_back(peer);
    }
    if (needed.empty()) continue;
    if (awaited->peer >= 0) {
      fail_here(missing(awaited->peer, still_needed(awaited->peer)));
      continue;
    }
    // Of a collective they may have done their part.
    const std::uint64_t number = awaited->number;
    const auto answers = ask(lock, needed, channel->id);
    if (failure_ || channel->awaited != awaited) continue;
    for (const auto& [peer, answer] : answers) {
      if (answer.collectives <= number) fail_here(missing(peer, still_needed(peer)));
    }
  }
}

}  // namespace acp::mpi
