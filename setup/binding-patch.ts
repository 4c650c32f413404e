import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fail } from './addon.js';

/** Text that goes before the first occurrence of `anchor` in a source file of tfjs-node's addon. */
interface Insertion {
  readonly file: string;
  readonly anchor: string;
  readonly text: string;
}

/*
 * Five functions more for the addon that is compiled here. Where it comes from npm's download it lacks them, and the worker does
 * without.
 *
 * `readTensor(id, target)` copies a tensor's data into memory of ours. The addon's own `tensorDataSync` makes a new, zeroed
 * ArrayBuffer for every tensor: for the gradients of `dense`, 3.6 MB a micro-batch, the page faults took 2.0 of 9.5 ms.
 *
 * `mapFile(file, offset, bytes, writable)` makes an ArrayBuffer of a part of an open file, until it is collected as garbage. So slots read
 * parameters and leave gradients in the exchange (shared/exchange.ts) without a copy in between.
 *
 * `watchFile(watch, path)` and `awaitWrite(watch, milliseconds)` block a thread until somebody writes to one of some files, by Linux' inotify: so a
 * slot hears of parameters in the exchange from the write itself.
 *
 * `gatherRows(source, rows, target)` copies rows of as many bytes as fit, all of them bytes of uint8 arrays. V8 copies shared memory word by word.
 */
const INSERTIONS: readonly Insertion[] = [
  {
    file: 'tfjs_backend.h',
    anchor: '  // Executes a TFE Op and returns an array',
    text: `  // Copies a tensor's data into a float32, int32 or uint8 array of as many bytes.
  void ReadTensor(napi_env env, napi_value tensor_id_value, napi_value target);

`,
  },
  {
    file: 'tfjs_backend.cc',
    anchor: 'napi_value TFJSBackend::ExecuteOp(',
    text: `void TFJSBackend::ReadTensor(napi_env env, napi_value tensor_id_value,
                             napi_value target) {
  int32_t tensor_id;
  ENSURE_NAPI_OK(env,
                 napi_get_value_int32(env, tensor_id_value, &tensor_id));
  auto tensor_entry = tfe_handle_map_.find(tensor_id);
  if (tensor_entry == tfe_handle_map_.end()) {
    NAPI_THROW_ERROR(env, "readTensor: no tensor %d", tensor_id);
    return;
  }
  napi_typedarray_type type;
  size_t length;
  void *data;
  ENSURE_NAPI_OK(env, napi_get_typedarray_info(env, target, &type, &length,
                                               &data, nullptr, nullptr));
  if (type != napi_float32_array && type != napi_int32_array &&
      type != napi_uint8_array) {
    NAPI_THROW_ERROR(env, "readTensor: the target is of another type");
    return;
  }
  TF_AutoStatus tf_status;
  TF_AutoTensor tensor(
      TFE_TensorHandleResolve(tensor_entry->second, tf_status.status));
  ENSURE_TF_OK(env, tf_status);
  const size_t bytes = length * (type == napi_uint8_array ? 1 : 4);
  if (TF_TensorByteSize(tensor.tensor) != bytes) {
    NAPI_THROW_ERROR(env, "readTensor: the target has another length");
    return;
  }
  if (bytes > 0) memcpy(data, TF_TensorData(tensor.tensor), bytes);
}

`,
  },
  {
    file: 'tfjs_binding.cc',
    anchor: '#include <node_api.h>',
    text: `#include <poll.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
`,
  },
  {
    file: 'tfjs_binding.cc',
    anchor: 'static napi_value ExecuteOp(',
    text: `static void Unmap(napi_env env, void *address, void *bytes) {
  munmap(address, reinterpret_cast<size_t>(bytes));
}

static napi_value MapFile(napi_env env, napi_callback_info info) {
  size_t argc = 4;
  napi_value args[4];
  ENSURE_NAPI_OK_RETVAL(
      env, napi_get_cb_info(env, info, &argc, args, nullptr, nullptr),
      nullptr);
  int32_t file;
  int64_t offset, bytes;
  bool writable;
  if (argc < 4 || napi_get_value_int32(env, args[0], &file) != napi_ok ||
      napi_get_value_int64(env, args[1], &offset) != napi_ok ||
      napi_get_value_int64(env, args[2], &bytes) != napi_ok ||
      napi_get_value_bool(env, args[3], &writable) != napi_ok) {
    NAPI_THROW_ERROR(env, "mapFile takes a file, an offset, bytes, writable");
    return nullptr;
  }
  // Memory beyond the end of the file would be a signal, not an error.
  struct stat found;
  if (fstat(file, &found) != 0 || offset < 0 || bytes <= 0 ||
      offset > found.st_size || bytes > found.st_size - offset) {
    NAPI_THROW_ERROR(env, "mapFile: the file does not reach so far");
    return nullptr;
  }
  void *const address =
      mmap(nullptr, bytes, PROT_READ | (writable ? PROT_WRITE : 0),
           MAP_SHARED | MAP_POPULATE, file, offset);
  if (address == MAP_FAILED) {
    NAPI_THROW_ERROR(env, "mapFile: the file cannot be mapped");
    return nullptr;
  }
  napi_value mapped;
  if (napi_create_external_arraybuffer(env, address, bytes, Unmap,
                                       reinterpret_cast<void *>(bytes),
                                       &mapped) != napi_ok) {
    munmap(address, bytes);
    NAPI_THROW_ERROR(env, "mapFile: memory outside of V8 is not allowed here");
    return nullptr;
  }
  return mapped;
}

static void CloseWatch(void *watch) {
  close(static_cast<int>(reinterpret_cast<intptr_t>(watch)));
}

static napi_value WatchFile(napi_env env, napi_callback_info info) {
  size_t argc = 2;
  napi_value args[2];
  ENSURE_NAPI_OK_RETVAL(
      env, napi_get_cb_info(env, info, &argc, args, nullptr, nullptr),
      nullptr);
  int32_t watch;
  char path[4096];
  size_t length;
  if (argc < 2 || napi_get_value_int32(env, args[0], &watch) != napi_ok ||
      napi_get_value_string_utf8(env, args[1], path, sizeof(path), &length) !=
          napi_ok ||
      length == sizeof(path) - 1) {
    NAPI_THROW_ERROR(env, "watchFile takes a watch and a path");
    return nullptr;
  }
  const bool is_new = watch < 0;
  if (is_new) watch = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
  if (watch < 0) {
    NAPI_THROW_ERROR(env, "watchFile: this user has too many watches");
    return nullptr;
  }
  if (inotify_add_watch(watch, path, IN_MODIFY | IN_DONT_FOLLOW) < 0) {
    if (is_new) close(watch);
    NAPI_THROW_ERROR(env, "watchFile: the file cannot be watched");
    return nullptr;
  }
  if (is_new) {
    napi_add_env_cleanup_hook(
        env, CloseWatch,
        reinterpret_cast<void *>(static_cast<intptr_t>(watch)));
  }
  napi_value result;
  ENSURE_NAPI_OK_RETVAL(env, napi_create_int32(env, watch, &result), nullptr);
  return result;
}

static napi_value AwaitWrite(napi_env env, napi_callback_info info) {
  size_t argc = 2;
  napi_value args[2];
  ENSURE_NAPI_OK_RETVAL(
      env, napi_get_cb_info(env, info, &argc, args, nullptr, nullptr),
      nullptr);
  int32_t watch, milliseconds;
  if (argc < 2 || napi_get_value_int32(env, args[0], &watch) != napi_ok ||
      napi_get_value_int32(env, args[1], &milliseconds) != napi_ok ||
      milliseconds < 0) {
    NAPI_THROW_ERROR(env, "awaitWrite takes a watch and milliseconds");
    return nullptr;
  }
  struct pollfd waited = {watch, POLLIN, 0};
  if (poll(&waited, 1, milliseconds) > 0) {
    char events[4096];
    while (read(watch, events, sizeof(events)) > 0) {
    }
  }
  return nullptr;
}

static napi_value GatherRows(napi_env env, napi_callback_info info) {
  size_t argc = 3;
  napi_value args[3];
  ENSURE_NAPI_OK_RETVAL(
      env, napi_get_cb_info(env, info, &argc, args, nullptr, nullptr),
      nullptr);
  napi_typedarray_type types[3];
  size_t lengths[3];
  void *data[3];
  for (size_t i = 0; i < 3; i++) {
    if (i >= argc ||
        napi_get_typedarray_info(env, args[i], &types[i], &lengths[i],
                                 &data[i], nullptr, nullptr) != napi_ok ||
        types[i] != (i == 1 ? napi_uint32_array : napi_uint8_array)) {
      NAPI_THROW_ERROR(env, "gatherRows takes uint8, uint32 and uint8 arrays");
      return nullptr;
    }
  }
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
      NAPI_THROW_ERROR(env, "gatherRows: there is no row %zu", row);
      return nullptr;
    }
    memcpy(target + i * bytes, source + row * bytes, bytes);
  }
  return nullptr;
}

static napi_value ReadTensor(napi_env env, napi_callback_info info) {
  size_t argc = 2;
  napi_value args[2];
  napi_value js_this;
  ENSURE_NAPI_OK_RETVAL(
      env, napi_get_cb_info(env, info, &argc, args, &js_this, nullptr),
      nullptr);
  if (argc < 2) {
    NAPI_THROW_ERROR(env, "readTensor takes a tensor and a typed array");
    return nullptr;
  }
  TFJSBackend *const backend = GetTFJSBackend(env);
  if (!backend) return nullptr;
  backend->ReadTensor(env, args[0], args[1]);
  return js_this;
}

`,
  },
  {
    file: 'tfjs_binding.cc',
    anchor: '      {"executeOp", nullptr, ExecuteOp',
    text: `      {"readTensor", nullptr, ReadTensor, nullptr, nullptr, nullptr,
       napi_default, nullptr},
      {"gatherRows", nullptr, GatherRows, nullptr, nullptr, nullptr,
       napi_default, nullptr},
      {"mapFile", nullptr, MapFile, nullptr, nullptr, nullptr, napi_default,
       nullptr},
      {"watchFile", nullptr, WatchFile, nullptr, nullptr, nullptr,
       napi_default, nullptr},
      {"awaitWrite", nullptr, AwaitWrite, nullptr, nullptr, nullptr,
       napi_default, nullptr},
`,
  },
];

/** Names what the patch adds, for the cache: another patch is another addon. */
export const PATCH = 'watch2';

/**
 * Adds our function to the addon's sources.
 * @param build a folder with a copy of the package's sources
 * @throws AtelierError `usage` when the sources are not those that the patch is for
 */
export function patchBinding(build: string): void {
  for (const { file, anchor, text } of INSERTIONS) {
    const path = join(build, 'binding', file);
    const source = readFileSync(path, 'utf8');
    const at = source.indexOf(anchor);
    if (at === -1)
      fail(`${file} of tfjs-node is not the one this version of Atelier patches: no "${anchor}"`);
    writeFileSync(path, source.slice(0, at) + text + source.slice(at));
  }
}
