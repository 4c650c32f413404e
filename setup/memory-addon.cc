// An addon of Atelier's own, compiled with tfjs-node's: what Node cannot do with memory and files (shared/native-memory.ts
// says what each function is for). It knows nothing of TensorFlow, so a process without TensorFlow may load it.
#include <node_api.h>
#include <poll.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstring>

namespace {

napi_value Fail(napi_env env, const char *why) {
  napi_throw_error(env, nullptr, why);
  return nullptr;
}

template <size_t N>
bool Arguments(napi_env env, napi_callback_info info, napi_value (&args)[N]) {
  size_t argc = N;
  return napi_get_cb_info(env, info, &argc, args, nullptr, nullptr) == napi_ok && argc >= N;
}

// Memory beyond the end of a file would be a signal, not an error.
bool Reaches(int file, int64_t offset, int64_t bytes) {
  struct stat found;
  return fstat(file, &found) == 0 && offset >= 0 && bytes > 0 && offset <= found.st_size &&
         bytes <= found.st_size - offset;
}

void Unmap(napi_env env, void *address, void *bytes) {
  munmap(address, reinterpret_cast<size_t>(bytes));
}

// mapFile(file, offset, bytes, writable): ArrayBuffer
napi_value MapFile(napi_env env, napi_callback_info info) {
  napi_value args[4];
  int32_t file;
  int64_t offset, bytes;
  bool writable;
  if (!Arguments(env, info, args) || napi_get_value_int32(env, args[0], &file) != napi_ok ||
      napi_get_value_int64(env, args[1], &offset) != napi_ok ||
      napi_get_value_int64(env, args[2], &bytes) != napi_ok ||
      napi_get_value_bool(env, args[3], &writable) != napi_ok)
    return Fail(env, "mapFile takes a file, an offset, bytes, writable");
  if (!Reaches(file, offset, bytes)) return Fail(env, "mapFile: the file does not reach so far");
  void *const address = mmap(nullptr, bytes, PROT_READ | (writable ? PROT_WRITE : 0),
                             MAP_SHARED | MAP_POPULATE, file, offset);
  if (address == MAP_FAILED) return Fail(env, "mapFile: the file cannot be mapped");
  napi_value mapped;
  if (napi_create_external_arraybuffer(env, address, bytes, Unmap, reinterpret_cast<void *>(bytes),
                                       &mapped) != napi_ok) {
    munmap(address, bytes);
    return Fail(env, "mapFile: memory outside of V8 is not allowed here");
  }
  return mapped;
}

// mapOver(values, file, offset); file -1: zeros instead of a file
napi_value MapOver(napi_env env, napi_callback_info info) {
  napi_value args[3];
  napi_typedarray_type type;
  size_t length;
  void *address;
  int32_t file;
  int64_t offset;
  if (!Arguments(env, info, args) ||
      napi_get_typedarray_info(env, args[0], &type, &length, &address, nullptr, nullptr) != napi_ok ||
      type != napi_float32_array || napi_get_value_int32(env, args[1], &file) != napi_ok ||
      napi_get_value_int64(env, args[2], &offset) != napi_ok)
    return Fail(env, "mapOver takes a float32 array, a file, an offset");
  const size_t page = sysconf(_SC_PAGESIZE);
  const size_t bytes = length * sizeof(float);
  if (bytes == 0 || reinterpret_cast<uintptr_t>(address) % page != 0)
    return Fail(env, "mapOver: the array does not begin where a page does");
  if (file >= 0 && !Reaches(file, offset, bytes))
    return Fail(env, "mapOver: the file does not reach so far");
  const int kind = file < 0 ? MAP_PRIVATE | MAP_ANONYMOUS : MAP_SHARED | MAP_POPULATE;
  if (mmap(address, bytes, PROT_READ | PROT_WRITE, MAP_FIXED | kind, file, file < 0 ? 0 : offset) ==
      MAP_FAILED)
    return Fail(env, "mapOver: the file cannot be mapped");
  return nullptr;
}

void CloseWatch(void *watch) { close(static_cast<int>(reinterpret_cast<intptr_t>(watch))); }

// watchFile(watch, path): watch
napi_value WatchFile(napi_env env, napi_callback_info info) {
  napi_value args[2];
  int32_t watch;
  char path[4096];
  size_t length;
  if (!Arguments(env, info, args) || napi_get_value_int32(env, args[0], &watch) != napi_ok ||
      napi_get_value_string_utf8(env, args[1], path, sizeof(path), &length) != napi_ok ||
      length == sizeof(path) - 1)
    return Fail(env, "watchFile takes a watch and a path");
  const bool is_new = watch < 0;
  if (is_new) watch = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
  if (watch < 0) return Fail(env, "watchFile: this user has too many watches");
  if (inotify_add_watch(watch, path, IN_MODIFY | IN_DONT_FOLLOW) < 0) {
    if (is_new) close(watch);
    return Fail(env, "watchFile: the file cannot be watched");
  }
  if (is_new)
    napi_add_env_cleanup_hook(env, CloseWatch,
                              reinterpret_cast<void *>(static_cast<intptr_t>(watch)));
  napi_value result;
  return napi_create_int32(env, watch, &result) == napi_ok ? result : nullptr;
}

// awaitWrite(watch, milliseconds)
napi_value AwaitWrite(napi_env env, napi_callback_info info) {
  napi_value args[2];
  int32_t watch, milliseconds;
  if (!Arguments(env, info, args) || napi_get_value_int32(env, args[0], &watch) != napi_ok ||
      napi_get_value_int32(env, args[1], &milliseconds) != napi_ok || milliseconds < 0)
    return Fail(env, "awaitWrite takes a watch and milliseconds");
  struct pollfd waited = {watch, POLLIN, 0};
  if (poll(&waited, 1, milliseconds) > 0) {
    char events[4096];
    while (read(watch, events, sizeof(events)) > 0) {
    }
  }
  return nullptr;
}

// gatherRows(source, rows, target)
napi_value GatherRows(napi_env env, napi_callback_info info) {
  napi_value args[3];
  napi_typedarray_type types[3];
  size_t lengths[3];
  void *data[3];
  bool fits = Arguments(env, info, args);
  for (size_t i = 0; fits && i < 3; i++)
    fits = napi_get_typedarray_info(env, args[i], &types[i], &lengths[i], &data[i], nullptr,
                                    nullptr) == napi_ok &&
           types[i] == (i == 1 ? napi_uint32_array : napi_uint8_array);
  if (!fits) return Fail(env, "gatherRows takes uint8, uint32 and uint8 arrays");
  const size_t count = lengths[1];
  if (count == 0) return nullptr;
  const size_t bytes = lengths[2] / count;
  const size_t rows = bytes == 0 ? 0 : lengths[0] / bytes;
  const auto *source = static_cast<const uint8_t *>(data[0]);
  const auto *numbers = static_cast<const uint32_t *>(data[1]);
  auto *target = static_cast<uint8_t *>(data[2]);
  for (size_t i = 0; i < count; i++) {
    const size_t row = numbers[i];
    if (row >= rows) {
      char why[64];
      snprintf(why, sizeof(why), "gatherRows: there is no row %zu", row);
      return Fail(env, why);
    }
    memcpy(target + i * bytes, source + row * bytes, bytes);
  }
  return nullptr;
}

}  // namespace

NAPI_MODULE_INIT() {
  const napi_property_descriptor functions[] = {
      {"mapFile", nullptr, MapFile, nullptr, nullptr, nullptr, napi_default, nullptr},
      {"mapOver", nullptr, MapOver, nullptr, nullptr, nullptr, napi_default, nullptr},
      {"watchFile", nullptr, WatchFile, nullptr, nullptr, nullptr, napi_default, nullptr},
      {"awaitWrite", nullptr, AwaitWrite, nullptr, nullptr, nullptr, napi_default, nullptr},
      {"gatherRows", nullptr, GatherRows, nullptr, nullptr, nullptr, napi_default, nullptr},
  };
  return napi_define_properties(env, exports, sizeof(functions) / sizeof(functions[0]),
                                functions) == napi_ok
             ? exports
             : nullptr;
}
