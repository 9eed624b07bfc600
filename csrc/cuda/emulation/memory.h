// Checked memory of the emulation: pointers that know their extent, shared arrays that know who touched each cell.
//
// Raises on: an access outside a view of global memory, a misaligned or overhanging vector access, an access outside a
// shared array, a read of a shared cell that no thread of the block wrote, and two threads that access a shared cell
// without a barrier between them when one of them writes.
#pragma once

#include <cstdint>
#include <vector>

namespace flowkit {

// A view of global memory: T* under nvcc, a pointer with bounds here.
template <class T>
class device_ptr {
 public:
  device_ptr() = default;
  device_ptr(T* data, int64_t low, int64_t high, emulation::Location made)
      : data_(data), low_(low), high_(high), made_(made) {}

  template <class U>
  device_ptr(const device_ptr<U>& other)
      : data_(other.data_), low_(other.low_), high_(other.high_), made_(other.made_) {}

  explicit operator bool() const { return data_ != nullptr; }
  device_ptr operator+(int64_t n) const { return {data_ + n, low_ - n, high_ - n, made_}; }
  T& operator[](int64_t i) const { return *check(i, 1); }

  // The address of `count` elements from element `i`, all inside the view and aligned to their common size.
  T* check(int64_t i, int count) const {
    if (i < low_ || i + count > high_)
      emulation::fail(
          "access to global memory at index %lld (%d element%s of %zu bytes), outside the view of extent %lld "
          "made at %s:%d",
          static_cast<long long>(i - low_), count, count == 1 ? "" : "s", sizeof(T),
          static_cast<long long>(high_ - low_), made_.file, made_.line);
    if (reinterpret_cast<uintptr_t>(data_ + i) % (sizeof(T) * count) != 0)
      emulation::fail("access to global memory at index %lld is not aligned to its %zu bytes (view made at %s:%d)",
                      static_cast<long long>(i - low_), sizeof(T) * count, made_.file, made_.line);
    return data_ + i;
  }

 private:
  template <class>
  friend class device_ptr;
  T* data_ = nullptr;
  int64_t low_ = 0, high_ = 0;
  emulation::Location made_ = {"", 0};
};

template <class T>
using readonly_ptr = device_ptr<const T>;

template <class T>
device_ptr<T> view(T* data, int64_t extent, const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
  return {data, 0, data ? extent : 0, {file, line}};
}

namespace emulation {

// Who touched a shared cell last. `block` and `warp` count the barriers passed when it happened.
struct Access {
  int thread = -1;
  unsigned block = 0, warp = 0;
};

struct Cell {
  Access write, read, other_read;
};

struct SharedStorage {
  const void* identity = nullptr;
  uint64_t block = 0;
  std::vector<unsigned char> bytes;
  std::vector<Cell> cells;
};

// The block's storage for an array; poisoned with 0xff (a NaN) when its first thread asks for it.
SharedStorage& shared_storage(const void* identity, const char* name, size_t element, int64_t count);
int64_t dynamic_shared_bytes();
void record_read(Cell& cell, const char* name, int64_t index);
void record_write(Cell& cell, const char* name, int64_t index);

template <class T>
class SharedReference {
 public:
  SharedReference(T* value, Cell* cell, const char* name, int64_t index)
      : value_(value), cell_(cell), name_(name), index_(index) {}
  operator T() const {
    record_read(*cell_, name_, index_);
    return *value_;
  }
  const SharedReference& operator=(T value) const {
    record_write(*cell_, name_, index_);
    *value_ = value;
    return *this;
  }
  const SharedReference& operator=(const SharedReference& other) const { return *this = static_cast<T>(other); }
  const SharedReference& operator+=(T value) const { return *this = static_cast<T>(*this) + value; }

 private:
  T* value_;
  Cell* cell_;
  const char* name_;
  int64_t index_;
};

template <class T>
class SharedArray {
 public:
  SharedArray(T* data, Cell* cells, int64_t low, int64_t high, const char* name)
      : data_(data), cells_(cells), low_(low), high_(high), name_(name) {}
  SharedReference<T> operator[](int64_t i) const {
    if (i < low_ || i >= high_)
      fail("access to shared array `%s` at index %lld, outside its extent %lld", name_,
           static_cast<long long>(i - low_), static_cast<long long>(high_ - low_));
    return {data_ + i, cells_ + i, name_, i - low_};
  }
  SharedArray operator+(int64_t n) const { return {data_ + n, cells_ + n, low_ - n, high_ - n, name_}; }

 private:
  T* data_;
  Cell* cells_;
  int64_t low_, high_;
  const char* name_;
};

template <class T>
SharedArray<T> static_shared(const void* identity, const char* name, int64_t count) {
  SharedStorage& storage = shared_storage(identity, name, sizeof(T), count);
  return {reinterpret_cast<T*>(storage.bytes.data()), storage.cells.data(), 0, count, name};
}

template <class T>
SharedArray<T> dynamic_shared(const char* name) {
  return static_shared<T>(nullptr, name, dynamic_shared_bytes() / static_cast<int64_t>(sizeof(T)));
}

}  // namespace emulation

// A shared array as an argument of a device function: T* under nvcc.
template <class T>
using shared_ptr = emulation::SharedArray<T>;

}  // namespace flowkit
