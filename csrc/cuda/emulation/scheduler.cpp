// Runs the threads of a block as fibers and watches how they synchronise.
//
// Raises on: a thread that exits, or waits elsewhere, while others wait at __syncthreads; a warp operation whose mask
// names lanes that do not arrive or do not exist, or leaves out the caller or the lane it reads from; a launch that the
// hardware would refuse. Memory is watched in memory.h with the records kept here.
#include "emulation.h"

#include <csetjmp>
#include <cstdarg>
#include <cstdio>
#include <exception>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <string>
#include <vector>

#include <ucontext.h>

dim3 threadIdx, blockIdx, blockDim, gridDim;

namespace flowkit::emulation {
namespace {

constexpr size_t stack_bytes = 64 * 1024;
constexpr size_t shared_limit = 48 * 1024;

enum class State { ready, at_barrier, at_warp_operation, finished };

struct Fiber {
  std::unique_ptr<char[]> stack{new char[stack_bytes]};
  ucontext_t entry;
  jmp_buf context;
  bool started = false;
  State state = State::ready;
  const char* operation = "";
  Location where = {"", 0};
  unsigned mask = 0;
  int source = 0;
  uint64_t sent = 0, received = 0;
  unsigned votes = 0;  // the lanes of the mask that sent an odd number
};

// One kernel runs at a time; `lock` makes launches from several threads wait for each other.
struct Engine {
  std::mutex lock;
  const char* kernel = "";
  const std::function<void()>* body = nullptr;
  std::vector<std::unique_ptr<Fiber>> fibers;
  int threads = 0, current = 0;
  jmp_buf scheduler;
  std::exception_ptr error;
  std::vector<std::unique_ptr<SharedStorage>> shared;
  size_t dynamic_bytes = 0;
  uint64_t block = 0;
  unsigned barriers = 0;
  std::vector<unsigned> warp_barriers;
  bool reversed = false;
};

Engine engine;

Fiber& fiber(int thread) { return *engine.fibers[thread]; }

int warps() { return (engine.threads + warp_size - 1) / warp_size; }

std::string place(Location where) { return std::string(where.file) + ":" + std::to_string(where.line); }

bool same(Location a, Location b) { return a.line == b.line && std::strcmp(a.file, b.file) == 0; }

dim3 thread_index(int thread) {
  const unsigned t = thread, row = t / blockDim.x;
  return {t % blockDim.x, row % blockDim.y, row / blockDim.y};
}

// Leaves the running fiber for the scheduler. Returns when the scheduler resumes it.
void suspend() {
  if (_setjmp(fiber(engine.current).context) == 0) _longjmp(engine.scheduler, 1);
}

// A fiber outlives its block: it runs the body again each time the scheduler starts it anew.
void fiber_main() {
  for (;;) {
    try {
      (*engine.body)();
    } catch (...) {
      engine.error = std::current_exception();
    }
    fiber(engine.current).state = State::finished;
    suspend();
  }
}

void resume(int thread) {
  Fiber& next = fiber(thread);
  engine.current = thread;
  threadIdx = thread_index(thread);
  if (_setjmp(engine.scheduler) != 0) return;
  if (next.started) _longjmp(next.context, 1);
  next.started = true;
  getcontext(&next.entry);
  next.entry.uc_stack.ss_sp = next.stack.get();
  next.entry.uc_stack.ss_size = stack_bytes;
  next.entry.uc_link = nullptr;
  makecontext(&next.entry, fiber_main, 0);
  setcontext(&next.entry);
}

void resume_ready() {
  for (int i = 0; i < engine.threads; ++i) {
    const int t = engine.reversed ? engine.threads - 1 - i : i;
    if (fiber(t).state != State::ready) continue;
    resume(t);
    if (engine.error) std::rethrow_exception(engine.error);
  }
}

// Whether all lanes that `thread` waits for stand at the same operation with the same mask.
bool warp_complete(int thread) {
  const Fiber& self = fiber(thread);
  const int first = thread - thread % warp_size;
  for (int lane = 0; lane < warp_size; ++lane) {
    if (!(self.mask >> lane & 1u)) continue;
    if (first + lane >= engine.threads) return false;
    const Fiber& other = fiber(first + lane);
    if (other.state != State::at_warp_operation || other.mask != self.mask || !same(other.where, self.where))
      return false;
  }
  return true;
}

void release_warp(int thread) {
  const unsigned mask = fiber(thread).mask;
  const int first = thread - thread % warp_size;
  unsigned votes = 0;
  for (int lane = 0; lane < warp_size; ++lane)
    if (mask >> lane & 1u) votes |= static_cast<unsigned>(fiber(first + lane).sent & 1) << lane;
  for (int lane = 0; lane < warp_size; ++lane) {
    if (!(mask >> lane & 1u)) continue;
    Fiber& self = fiber(first + lane);
    self.received = fiber(first + self.source).sent;
    self.votes = votes;
    self.state = State::ready;
  }
  // A shuffle moves values and orders nothing; only __syncwarp orders the warp's accesses to memory.
  if (std::strcmp(fiber(thread).operation, "__syncwarp") == 0) ++engine.warp_barriers[thread / warp_size];
}

[[noreturn]] void fail_warp(int thread) {
  const Fiber& self = fiber(thread);
  const int first = thread - thread % warp_size;
  engine.current = thread;
  threadIdx = thread_index(thread);
  for (int lane = 0; lane < warp_size; ++lane) {
    if (!(self.mask >> lane & 1u)) continue;
    if (first + lane >= engine.threads)
      fail("divergent warp: %s at %s names lane %d in its mask 0x%08x, but the block has only %d threads",
           self.operation, place(self.where).c_str(), lane, self.mask, engine.threads);
    const Fiber& other = fiber(first + lane);
    if (other.state == State::at_warp_operation && other.mask == self.mask && same(other.where, self.where)) continue;
    const std::string elsewhere = other.state == State::finished ? "has exited" : "waits at " + place(other.where);
    fail("divergent warp: %s at %s names lane %d in its mask 0x%08x, but that lane %s", self.operation,
         place(self.where).c_str(), lane, self.mask, elsewhere.c_str());
  }
  fail("divergent warp: %s at %s never completes", self.operation, place(self.where).c_str());
}

// Nobody is ready. Lets the block pass a barrier that all threads reached, or says who is missing.
void release_barrier() {
  int waiting = -1;
  for (int t = 0; t < engine.threads; ++t) {
    if (fiber(t).state == State::at_warp_operation) fail_warp(t);
    if (fiber(t).state == State::at_barrier && waiting < 0) waiting = t;
  }
  engine.current = waiting;
  threadIdx = thread_index(waiting);
  const Location where = fiber(waiting).where;
  for (int t = 0; t < engine.threads; ++t) {
    const Fiber& other = fiber(t);
    if (other.state == State::finished)
      fail("divergent barrier: waits at %s while thread %d of the block has exited", place(where).c_str(), t);
    if (!same(other.where, where))
      fail("divergent barrier: waits at %s while thread %d of the block waits at %s", place(where).c_str(), t,
           place(other.where).c_str());
  }
  for (int t = 0; t < engine.threads; ++t) fiber(t).state = State::ready;
  ++engine.barriers;
}

void run_block() {
  ++engine.block;
  engine.barriers = 0;
  engine.warp_barriers.assign(warps(), 0);
  for (int t = 0; t < engine.threads; ++t) fiber(t).state = State::ready;
  for (;;) {
    resume_ready();
    bool ready = false, all_finished = true;
    for (int t = 0; t < engine.threads; ++t) {
      if (fiber(t).state == State::at_warp_operation && warp_complete(t)) release_warp(t);
      ready |= fiber(t).state == State::ready;
      all_finished &= fiber(t).state == State::finished;
    }
    if (all_finished) return;
    if (!ready) release_barrier();
  }
}

void check_launch(dim3 grid, dim3 block, size_t shared_bytes) {
  const uint64_t threads = uint64_t(block.x) * block.y * block.z;
  const bool grid_fits =
      grid.x >= 1 && grid.y >= 1 && grid.z >= 1 && grid.x <= 0x7fffffffu && grid.y <= 65535 && grid.z <= 65535;
  if (threads >= 1 && threads <= 1024 && block.z <= 64 && grid_fits && shared_bytes <= shared_limit) return;
  throw std::runtime_error("kernel " + std::string(engine.kernel) + ": invalid launch: grid (" +
                           std::to_string(grid.x) + ", " + std::to_string(grid.y) + ", " + std::to_string(grid.z) +
                           "), " + std::to_string(threads) + " threads a block, " + std::to_string(shared_bytes) +
                           " bytes of shared memory");
}

// Whether an access by this thread is ordered after the recorded one.
bool ordered(const Access& access) {
  if (access.thread < 0 || access.thread == engine.current || access.block != engine.barriers) return true;
  const int warp = engine.current / warp_size;
  return access.thread / warp_size == warp && access.warp != engine.warp_barriers[warp];
}

Access access_now() { return {engine.current, engine.barriers, engine.warp_barriers[engine.current / warp_size]}; }

[[noreturn]] void fail_race(const char* verb, const char* name, int64_t index, const char* other_verb,
                            const Access& other) {
  fail("race on shared array `%s`: %s index %lld, which thread %d %s with no barrier between", name, verb,
       static_cast<long long>(index), other.thread, other_verb);
}

}  // namespace

void fail(const char* format, ...) {
  char message[1024];
  va_list arguments;
  va_start(arguments, format);
  std::vsnprintf(message, sizeof message, format, arguments);
  va_end(arguments);
  char where[256];
  std::snprintf(where, sizeof where, ": block (%u, %u, %u), thread (%u, %u, %u): ", blockIdx.x, blockIdx.y, blockIdx.z,
                threadIdx.x, threadIdx.y, threadIdx.z);
  throw std::runtime_error(std::string("kernel ") + engine.kernel + where + message);
}

int lane() { return engine.current % warp_size; }

void block_barrier(Location where) {
  Fiber& self = fiber(engine.current);
  self.state = State::at_barrier;
  self.where = where;
  suspend();
}

uint64_t warp_exchange(const char* operation, unsigned mask, int source, uint64_t bits, Location where) {
  if (!(mask >> lane() & 1u))
    fail("%s at %s: mask 0x%08x leaves out the caller", operation, place(where).c_str(), mask);
  if (!(mask >> source & 1u))
    fail("%s at %s: reads from lane %d, which mask 0x%08x leaves out", operation, place(where).c_str(), source, mask);
  Fiber& self = fiber(engine.current);
  self.state = State::at_warp_operation;
  self.operation = operation;
  self.where = where;
  self.mask = mask;
  self.source = source;
  self.sent = bits;
  suspend();
  return self.received;
}

unsigned warp_votes(unsigned mask, bool vote, Location where) {
  warp_exchange("__ballot_sync", mask, lane(), vote, where);
  return fiber(engine.current).votes;
}

SharedStorage& shared_storage(const void* identity, const char* name, size_t element, int64_t count) {
  SharedStorage* found = nullptr;
  size_t total = 0;
  for (const auto& storage : engine.shared) {
    if (storage->identity == identity) found = storage.get();
    total += storage->bytes.size();
  }
  if (!found) {
    if (total + element * count > shared_limit)
      fail("shared array `%s` brings the block to %zu bytes of shared memory, limit %zu", name, total + element * count,
           shared_limit);
    engine.shared.push_back(std::make_unique<SharedStorage>());
    found = engine.shared.back().get();
    found->identity = identity;
  }
  if (found->block != engine.block) {
    found->block = engine.block;
    found->bytes.assign(element * count, 0xff);
    found->cells.assign(count, Cell{});
  }
  return *found;
}

int64_t dynamic_shared_bytes() { return static_cast<int64_t>(engine.dynamic_bytes); }

void record_read(Cell& cell, const char* name, int64_t index) {
  if (cell.write.thread < 0)
    fail("read of shared array `%s` at index %lld, which no thread of the block wrote", name,
         static_cast<long long>(index));
  if (!ordered(cell.write)) fail_race("reads", name, index, "wrote", cell.write);
  if (cell.read.thread != engine.current) cell.other_read = cell.read;
  cell.read = access_now();
}

void record_write(Cell& cell, const char* name, int64_t index) {
  if (!ordered(cell.write)) fail_race("writes", name, index, "wrote", cell.write);
  if (!ordered(cell.read)) fail_race("writes", name, index, "read", cell.read);
  if (!ordered(cell.other_read)) fail_race("writes", name, index, "read", cell.other_read);
  cell.write = access_now();
}

void launch(const char* kernel, dim3 grid, dim3 block, size_t shared_bytes, const std::function<void()>& body) {
  const std::lock_guard<std::mutex> guard(engine.lock);
  engine.kernel = kernel;
  check_launch(grid, block, shared_bytes);
  engine.body = &body;
  engine.threads = static_cast<int>(block.x * block.y * block.z);
  engine.dynamic_bytes = shared_bytes;
  engine.shared.clear();
  engine.error = nullptr;
  while (static_cast<int>(engine.fibers.size()) < engine.threads) engine.fibers.push_back(std::make_unique<Fiber>());
  gridDim = grid;
  blockDim = block;
  try {
    const uint64_t blocks = uint64_t(grid.x) * grid.y * grid.z;
    for (uint64_t i = 0; i < blocks; ++i) {
      const uint64_t b = engine.reversed ? blocks - 1 - i : i, row = b / grid.x;
      blockIdx = {unsigned(b % grid.x), unsigned(row % grid.y), unsigned(row / grid.y)};
      run_block();
    }
  } catch (...) {
    for (const auto& abandoned : engine.fibers) abandoned->started = false;  // their stacks hold half-run kernels
    throw;
  }
}

}  // namespace flowkit::emulation

// Runs blocks and threads in the opposite order from now on: a result that changes depends on what it must not.
extern "C" __attribute__((visibility("default"))) void flowkit_emulation_reverse(bool reversed) {
  flowkit::emulation::engine.reversed = reversed;
}
